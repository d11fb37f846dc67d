/**
 * The xenstore conformance suite over this machine's own xenstored: `node xenstore.mjs RELEASE`. Cases that make up
 * domains are left out: the real toolstack would hear of them. Prints what failed and `N passed, N failed`.
 */
import { nativeProvider } from '/lab/repo/packages/xen-sys/dist/index.js';
import {
  checkConformanceCase,
  clientCases,
  conformanceCases,
  runClientCase,
} from '/lab/repo/packages/xenstore/dist/testing.js';
import { runCases } from './run-cases.mjs';

const kind = process.argv[2] === '4.17' ? 'xenstored' : 'xenstored-4.20';
const target = { kind, connect: () => nativeProvider().connectXenstore() };

const cases = [
  ...conformanceCases.map((one) => ({ ...one, check: () => checkConformanceCase(one, target) })),
  ...clientCases.map((one) => ({ ...one, name: `the client ${one.name}`, check: () => runClientCase(one, target) })),
].filter(({ guests }) => !guests);

await runCases(cases);
