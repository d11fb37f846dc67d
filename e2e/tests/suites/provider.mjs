/**
 * The suite that every provider passes, over this machine's own devices: `node provider.mjs DOMID`. The domain
 * grants to itself and has channels to itself. Prints what failed and `N passed, N failed`.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { nativeProvider } from '/lab/repo/packages/xen-sys/dist/index.js';
import { testProvider } from '/lab/repo/packages/xen-sys/dist/testing.js';
import { runCases } from './run-cases.mjs';

const domid = Number(process.argv[2]);
const tests = [];
const titles = [];

testProvider('native', makeDomains, {
  describe(title, body) {
    titles.push(title);
    body();
    titles.pop();
  },
  it: (title, run) => tests.push({ name: [...titles, title].join(': '), check: run }),
});

/** Descriptors of the Xen devices, and pages mapped through them. */
function held() {
  const open = readdirSync('/proc/self/fd').length;
  const mapped = readFileSync('/proc/self/maps', 'utf8').match(/gntdev|gntalloc|xen\//g)?.length ?? 0;
  return { open, mapped };
}

async function makeDomains() {
  const provider = nativeProvider();
  const before = held();
  const leaks = () => {
    const { open, mapped } = held();
    const found = [];
    if (open > before.open + 1) found.push(`${open - before.open} descriptors`);
    if (mapped > before.mapped) found.push(`${mapped - before.mapped} mappings`);
    return found;
  };
  return { backend: { domid, provider }, frontend: { domid, provider }, leaks, close: () => {} };
}

await runCases(tests);
