/** `npm run test:ceph`: disks in a real Ceph cluster and on a real iSCSI server, both of this machine; docs/storage.md. */
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { DEBIAN, install } from './lib/debian.mjs';
import { readArguments, runMain, sayOnStderr } from './lib/program.mjs';
import { setup, TOOL_ENV } from './lib/setup.mjs';
import { run } from './lib/steps.mjs';
import { ROOT } from './lib/workspace.mjs';

const USAGE = `usage: npm run test:ceph [-- --install] [-- --kills N]

Serves disks in a Ceph cluster, and on an iSCSI server, that it starts on this machine, and kills each part of them. Ends
with a line \`N passed, N failed\`; what is missing on the machine counts as a failure.

  --install   first installs what the tests need of Debian (needs root and apt)
  --kills N   of each kind; 1 by default
  --help      this text
`;

const RESULTS = join(ROOT, '.tools', 'vitest-ceph.json');

await runMain(async () => {
  const options = { install: { type: 'boolean', default: false }, kills: { type: 'string', default: '1' } };
  const { values } = readArguments(USAGE, options);
  const { 'qemu-storage-daemon': helper } = DEBIAN.tests;
  const needed = { 'qemu-storage-daemon': helper, ...DEBIAN.networkStorage };
  if (values.install) await install('--install', needed, { say: sayOnStderr, all: false });
  await setup(sayOnStderr);
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${RESULTS}`];
  const args = ['run', ...reporters, '--project', 'xen-blockd', 'apps/xen-blockd/src/images/network/'];
  const env = { ...TOOL_ENV, CEPH_KILLS: values.kills };
  rmSync(RESULTS, { force: true });
  const vitest = join(ROOT, 'node_modules', '.bin', 'vitest');
  const failure = await run('vitest', vitest, args, { cwd: ROOT, env, show: true }).catch((error) => error);
  if (!existsSync(RESULTS)) throw failure;
  const { numPassedTests: passed, numFailedTests, numPendingTests } = JSON.parse(readFileSync(RESULTS, 'utf8'));
  const failed = Math.max(numFailedTests + numPendingTests, failure instanceof Error ? 1 : 0);
  console.log(`\n${passed} passed, ${failed} failed`);
  if (failed > 0) process.exitCode = 1;
});
