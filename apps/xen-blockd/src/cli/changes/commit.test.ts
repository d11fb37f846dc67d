import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { needs } from '@xenpv/test-support';
import { afterEach, beforeEach, expect } from 'vitest';
import { TestDaemon } from '../../testing/daemon.js';
import { runBlockd } from '../../testing/process.js';

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

qemu.it('a disk of many layers is one of few, by commit', { timeout: 60_000 }, async () => {
  const { guest, device } = await daemon.attachQcow2(path('disk.qcow2'), 'web1');
  for (const day of ['monday', 'tuesday', 'wednesday']) {
    await guest.write(0, randomBytes(MIB));
    expect((await blockd('snapshot', 'web1:xvda', path(`${day}.qcow2`))).code).toBe(0);
  }
  await guest.write(MIB, randomBytes(MIB));
  const content = Buffer.from(await guest.read(0, 8 * MIB));
  const middle = await blockd(
    ...['commit', 'web1:xvda', '--top', path('wednesday.qcow2'), '--base', path('tuesday.qcow2')],
  );
  expect(middle).toMatchObject({ code: 0, stdout: `${device} is committed\n`, stderr: '' });
  const begun = await blockd('commit', 'web1:xvda', '--speed', '64K', '--no-wait');
  expect(begun).toMatchObject({ code: 0, stdout: `${device} is being committed\n` });
  const cancelled = blockd('commit', 'web1:xvda');
  await expect.poll(async () => (await blockd('commit', 'web1:xvda', '--cancel')).code).toBe(0);
  expect(await cancelled).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('the job was cancelled; try again'),
  });
  const all = await blockd('commit', 'web1:xvda', '--json');
  expect([all.code, all.stderr]).toEqual([0, '']);
  expect(JSON.parse(all.stdout)).toEqual({ device, committed: true });
  expect(existsSync(path('monday.qcow2'))).toBe(false);
  expect(Buffer.from(await guest.read(0, 8 * MIB)).equals(content)).toBe(true);
  const superfluous = await blockd('commit', 'web1:xvda');
  expect(superfluous).toMatchObject({ code: 1, stderr: expect.stringContaining('there is nothing to commit it into') });
});
