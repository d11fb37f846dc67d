/** The suite that every provider passes, over the real Xen: dom0 with itself, xenstore over both of its ways. */
import { readdirSync } from 'node:fs';
import { nativeProvider } from '../../repo/packages/xen-sys/dist/index.js';
import { testProvider } from '../../repo/packages/xen-sys/dist/testing.js';
import { group, test } from '../dom0/registry.mjs';
import { sh } from '../dom0/shell.mjs';

const openFiles = () => readdirSync('/proc/self/fd').length;
const openPorts = async () => Number(await sh('lsevtchn 0 | wc -l'));

function suite(options) {
  const domain = { domid: 0, provider: nativeProvider(options) };
  const tests = [];
  const make = async () => {
    const before = openFiles();
    const leaks = () => (openFiles() > before + 2 ? [`${openFiles() - before} files`] : []);
    return { backend: domain, frontend: domain, leaks, close() {} };
  };
  let inGroup = '';
  testProvider('native', make, {
    describe: (name, body) => {
      inGroup = name;
      body();
    },
    it: (name, run) => tests.push(test(`${inGroup}: ${name}`, run)),
  });
  return tests;
}

async function setup(context) {
  context.ports = await openPorts();
}

/** What the hypervisor itself says, when all is closed. */
async function nothingLeft({ ports }) {
  const now = await openPorts();
  if (now > ports) throw new Error(`${now - ports} event channels left`);
}

const all = suite({});
group('provider', { setup }, [...all, test('no event channel is left', nothingLeft)]);
const overDevice = suite({ xenstorePath: '/dev/xen/xenbus' }).filter(({ name }) => name.startsWith('xenstore: a '));
group('provider over /dev/xen/xenbus', {}, overDevice);
