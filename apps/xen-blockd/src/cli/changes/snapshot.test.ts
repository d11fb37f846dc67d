import { existsSync, rmSync } from 'node:fs';
import { QmpClient } from '@xenpv/qmp';
import { needs } from '@xenpv/test-support';
import { afterEach, beforeEach, expect } from 'vitest';
import { TestDaemon } from '../../testing/daemon.js';
import { runBlockd } from '../../testing/process.js';
import { processesWith } from '../../testing/storage-helpers.js';

const MIB = 1 << 20;
const qemu = needs('qemu-img', 'qemu-storage-daemon', 'Linux');

let daemon: TestDaemon;

beforeEach(async () => {
  daemon = await TestDaemon.create();
  daemon.start();
  await daemon.says('ready');
});
afterEach(() => daemon[Symbol.asyncDispose]());

const blockd = (...args: string[]) => runBlockd(...args, '--socket', daemon.host.path('control'));
const path = (name: string) => daemon.host.path(name);

const attach = () => daemon.attachQcow2(path('disk.qcow2'), 'web1');

qemu.it('a snapshot is made, and made superfluous', async () => {
  const { guest, device } = await attach();
  const content = Buffer.from(await guest.read(0, 8 * MIB));
  const made = await blockd('snapshot', 'web1:xvda', path('monday.qcow2'), '--json');
  expect([made.code, made.stderr]).toEqual([0, '']);
  expect(JSON.parse(made.stdout)).toMatchObject([{ device, image: path('disk.qcow2') }]);
  const again = await blockd('snapshot', 'web1:xvda', path('monday.qcow2'));
  expect([again.code, again.stdout]).toEqual([1, '']);
  expect(again.stderr).toContain('monday.qcow2 is there already; choose another name');
  const flattened = await blockd('flatten', 'web1:xvda');
  expect([flattened.code, flattened.stdout, flattened.stderr]).toEqual([
    0,
    `${device} needs its snapshots no more\n`,
    '',
  ]);
  rmSync(path('monday.qcow2'));
  expect(Buffer.from(await guest.read(0, 8 * MIB)).equals(content)).toBe(true);
  const superfluous = await blockd('flatten', 'web1:xvda');
  expect(superfluous.code).toBe(1);
  expect(superfluous.stderr).toContain('the image has no backing file: there is nothing to fetch');
});

qemu.it('one that is cancelled, or whose helper ends, is an error that says so', async () => {
  const { device } = await attach();
  expect((await blockd('snapshot', 'web1:xvda', path('monday.qcow2'))).code).toBe(0);
  const begun = await blockd('flatten', 'web1:xvda', '--speed', '64K', '--no-wait');
  expect([begun.code, begun.stdout]).toEqual([0, `${device} is being flattened\n`]);
  const watched = blockd('flatten', 'web1:xvda');
  // It watches the job that runs: a second one would be refused.
  await new Promise((resolve) => setTimeout(resolve, 1000));
  expect((await blockd('flatten', 'web1:xvda', '--cancel')).code).toBe(0);
  const { code, stderr } = await watched;
  expect([code, stderr]).toEqual([1, expect.stringMatching(/still needs its snapshots: .*; try again/)]);
  expect((await blockd('flatten', 'web1:xvda', '--cancel')).stderr).toContain(`Block job '${device}' not found`);
  const killed = blockd('flatten', 'web1:xvda', '--speed', '64K');
  const client = await QmpClient.connect(path('control'));
  await expect.poll(() => client.execute('query-block-jobs'), { timeout: 20_000 }).toHaveLength(1);
  client.close();
  for (const pid of processesWith(path('disk.qcow2'))) process.kill(pid, 'SIGKILL');
  expect((await killed).stderr).toMatch(/still needs its snapshots: .*; try again/);
  expect(existsSync(path('monday.qcow2'))).toBe(true);
});

qemu.it('what is no size is refused before anything is begun', async () => {
  await attach();
  const { code, stderr } = await blockd('flatten', 'web1:xvda', '--speed', 'fast');
  expect(code).toBe(2);
  expect(stderr).toContain('size fast: expected as 10G');
});
