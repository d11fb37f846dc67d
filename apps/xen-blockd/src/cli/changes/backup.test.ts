import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { needs } from '@xenpv/test-support';
import { afterEach, beforeEach, expect } from 'vitest';
import { TestDaemon } from '../../testing/daemon.js';
import { BlockdProcess, runBlockd } from '../../testing/process.js';
import { runTool } from '../../tools.js';

const MIB = 1 << 20;
const qemu = needs('qemu-img', 'qemu-storage-daemon', 'Linux');

let daemon: TestDaemon;

beforeEach(async () => {
  daemon = await TestDaemon.create();
  daemon.start();
  await daemon.says('ready');
  mkdirSync(path('backup'));
});
afterEach(() => daemon[Symbol.asyncDispose]());

const blockd = (...args: string[]) => runBlockd(...args, '--socket', daemon.host.path('control'));
const path = (name: string) => daemon.host.path(name);

const attach = () => daemon.attachQcow2(path('disk.qcow2'), 'web1');

qemu.it('a disk is put together again of a full backup and an incremental one', async () => {
  const { guest, device } = await attach();
  const full = await blockd('backup', 'web1:xvda', path('backup/sunday.qcow2'), '--bitmap', 'weekly', '--json');
  expect([full.code, full.stderr]).toEqual([0, '']);
  expect(JSON.parse(full.stdout)).toEqual({ device, target: path('backup/sunday.qcow2'), finished: true });
  await guest.write(MIB, randomBytes(4096));
  const monday = path('backup/monday.qcow2');
  const next = await blockd('backup', 'web1:xvda', monday, '--incremental', 'weekly');
  expect([next.code, next.stdout, next.stderr]).toEqual([0, `${device} is backed up to ${monday}\n`, '']);
  await runTool('qemu-img', ['rebase', '-u', '-F', 'qcow2', '-b', 'sunday.qcow2', monday]);
  const content = Buffer.from(await guest.read(0, 8 * MIB));
  await runTool('qemu-img', ['convert', '-O', 'raw', monday, path('read')]);
  const again = await blockd('backup', 'web1:xvda', path('read'), '--incremental', 'weekly');
  expect(again.stderr).toContain('it is there already; choose another name');
  expect(readFileSync(path('read')).equals(content)).toBe(true);
});

qemu.it('Ctrl-C leaves no file, and no bitmap that tells too little', async () => {
  await attach();
  const args = ['backup', 'web1:xvda', path('backup/a.qcow2'), '--bitmap', 'weekly', '--speed', '64K'];
  const running = new BlockdProcess([...args, '--socket', path('control')]);
  await expect.poll(() => readdirSync(path('backup')), { timeout: 20_000 }).toEqual(['.a.qcow2.unfinished']);
  const jobs = () => blockd('backup', 'web1:xvda', path('backup/b.qcow2'));
  await expect.poll(async () => (await jobs()).stderr, { timeout: 20_000 }).toMatch(/already in use|\(backup\) runs/);
  running.signal('SIGINT');
  const { code, stderr } = await running.ended;
  expect([code, stderr]).toEqual([1, expect.stringContaining('a.qcow2 is no backup: the job was cancelled')]);
  expect(readdirSync(path('backup'))).toEqual([]);
  const none = await blockd('backup', 'web1:xvda', path('backup/a.qcow2'), '--incremental', 'weekly');
  expect([none.code, none.stderr]).toEqual([1, expect.stringMatching(/bitmap.*weekly/i)]);
  expect(readdirSync(path('backup'))).toEqual([]);
});
