/**
 * The xenstore conformance suite over this machine's own xenstored: `node xenstore-suite.mjs RELEASE`. Cases that make up
 * domains are left out: the real toolstack would hear of them. Prints what failed and `N passed, N failed`.
 */
import { nativeProvider } from '/lab/repo/packages/xen-sys/dist/index.js';
import {
  checkConformanceCase,
  clientCases,
  conformanceCases,
  runClientCase,
} from '/lab/repo/packages/xenstore/dist/testing.js';

const kind = process.argv[2] === '4.17' ? 'xenstored' : 'xenstored-4.20';
const target = { kind, connect: () => nativeProvider().connectXenstore() };
const LIMIT_MS = 60_000;

const cases = [
  ...conformanceCases.map((one) => ({ ...one, check: () => checkConformanceCase(one, target) })),
  ...clientCases.map((one) => ({ ...one, name: `the client ${one.name}`, check: () => runClientCase(one, target) })),
].filter(({ guests }) => !guests);

const totals = { passed: 0, failed: 0 };
for (const { name, check } of cases) {
  const timer = setTimeout(() => {
    console.log(`FAIL  ${name}: hangs`);
    process.exit(1);
  }, LIMIT_MS);
  try {
    await check();
    totals.passed++;
  } catch (error) {
    totals.failed++;
    console.log(`FAIL  ${name}: ${error.stack}`);
  }
  clearTimeout(timer);
}
console.log(`${totals.passed} passed, ${totals.failed} failed`);
process.exit(totals.failed > 0 || totals.passed === 0 ? 1 : 0);
