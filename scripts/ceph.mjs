/** `npm run test:ceph`: disks in a real Ceph cluster and on a real iSCSI server, both of this machine; docs/storage.md. */
import { join } from 'node:path';
import { DEBIAN, install } from './lib/debian.mjs';
import { readArguments, runMain, sayOnStderr } from './lib/program.mjs';
import { setup, TOOL_ENV } from './lib/setup.mjs';
import { run } from './lib/steps.mjs';
import { ROOT } from './lib/workspace.mjs';

const USAGE = `usage: npm run test:ceph [-- --install] [-- --kills N]

Serves disks in a Ceph cluster, and on an iSCSI server, that it starts on this machine, and kills each part of them.

  --install   first installs what the tests need of Debian (needs root and apt)
  --kills N   of each kind; 1 by default
  --help      this text
`;

const NEEDED = ['qemu-storage-daemon', 'block-rbd.so', 'block-iscsi.so', 'ceph', 'ceph-mon', 'ceph-osd', 'tgtd'];

await runMain(async () => {
  const options = { install: { type: 'boolean', default: false }, kills: { type: 'string', default: '1' } };
  const { values } = readArguments(USAGE, options);
  const needed = Object.fromEntries(NEEDED.map((name) => [name, DEBIAN.tests[name]]));
  if (values.install) await install('--install', needed, { say: sayOnStderr, all: false });
  await setup(sayOnStderr);
  const args = ['run', '--project', 'xen-blockd', 'apps/xen-blockd/src/images/network/'];
  const env = { ...TOOL_ENV, CEPH_KILLS: values.kills };
  await run('vitest', join(ROOT, 'node_modules', '.bin', 'vitest'), args, { cwd: ROOT, env, show: true });
});
