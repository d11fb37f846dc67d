import { randomBytes } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { QmpClient, type QmpEvent } from '@xenpv/qmp';
import { needs } from '@xenpv/test-support';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TestDaemon } from '../../../testing/daemon.js';
import { processesWith } from '../../../testing/storage-helpers.js';
import { runTool } from '../../../tools.js';

const MIB = 1 << 20;

let daemon: TestDaemon;
let client: QmpClient;
let events: QmpEvent[];

beforeEach(async () => {
  daemon = await TestDaemon.create();
  ({ client, events } = await daemon.startControlled());
});
afterEach(async () => {
  client.close();
  await daemon[Symbol.asyncDispose]();
});

const path = (name: string) => daemon.host.path(name);
const execute = (command: string, args: object = {}) => client.execute(command, args);
const jobs = () => execute('query-block-jobs');
const told = (name: string) => events.filter(({ event }) => event === name).map(({ data }) => data);

/** A guest that has written 4 MiB, with a snapshot since then. */
async function attachLayered() {
  const { content, ...disk } = await daemon.attachQcow2(path('disk.qcow2'), 'guest');
  await execute('x-snapshot', { disk: disk.device, filename: path('monday.qcow2') });
  return { ...disk, content: content.subarray(0, 4 * MIB) };
}

const qemu = needs('qemu-img', 'qemu-storage-daemon', 'Linux');

qemu.it('an image that has fetched all needs its snapshot no more', async () => {
  const { guest, device, content, domid } = await attachLayered();
  await execute('block-stream', { device });
  for (let i = 0; i < 8; i++) {
    const data = randomBytes(4096);
    data.copy(content, i * 8192);
    await guest.write(i * 8192, data);
  }
  await expect
    .poll(() => told('BLOCK_JOB_COMPLETED'), { timeout: 20_000 })
    .toMatchObject([{ device, type: 'stream', len: 8 * MIB, offset: 8 * MIB }]);
  expect(await jobs()).toEqual([]);
  await daemon.says('block job has ended');
  const { stdout } = await runTool('qemu-img', ['info', '-U', '--output=json', path('disk.qcow2')]);
  expect(JSON.parse(stdout)).not.toHaveProperty('backing-filename');
  rmSync(path('monday.qcow2'));
  for (const pid of processesWith(path('disk.qcow2'))) process.kill(pid, 'SIGKILL');
  expect(Buffer.from(await guest.read(0, 4 * MIB)).equals(content)).toBe(true);
  await daemon.host.host.toolstack.detachDisk(domid, 'xvda');
});

qemu.it('an id is of one job, also when two clients begin one at once, and a disk has one job', async () => {
  const [a, b] = [await daemon.attachQcow2(path('a.qcow2'), 'a'), await daemon.attachQcow2(path('b.qcow2'), 'b')];
  const second = await QmpClient.connect(path('control'), { answerMs: 60_000 });
  const backup = (by: QmpClient, device: string, name: string, id: string) =>
    by.execute('drive-backup', { device, 'job-id': id, target: path(name), sync: 'full', speed: 1 });
  for (const [device, id, reason] of [
    [b.device, 'one', "Job ID 'one' already in use"],
    [a.device, 'two', 'it has one at a time'],
  ] as const) {
    const begun = [backup(client, a.device, 'x', 'one'), backup(second, device, 'y', id)];
    const refused = (await Promise.allSettled(begun)).filter(({ status }) => status === 'rejected');
    expect(refused).toMatchObject([{ reason: { message: expect.stringContaining(reason) } }]);
    const [job, ...others] = (await jobs()) as { device: string }[];
    expect(others).toEqual([]);
    await execute('block-job-cancel', { device: job?.device, force: true });
    await expect.poll(jobs).toEqual([]);
  }
  for (const id of ['1', 'a b', '', 'x-tried'])
    await expect(backup(second, a.device, 'x', id)).rejects.toThrow(`Invalid job ID '${id}'`);
  second.close();
});

qemu.it('a job is watched, slowed, and cancelled; nothing else is done to its image meanwhile', async () => {
  const { guest, device } = await attachLayered();
  await execute('block-stream', { device, 'job-id': 'slow', speed: 65536 });
  expect(await jobs()).toMatchObject([{ device: 'slow', type: 'stream', len: 8 * MIB, speed: 65536 }]);
  expect(await execute('query-jobs')).toMatchObject([{ id: 'slow', type: 'stream', 'total-progress': 8 * MIB }]);
  await expect(execute('block-stream', { device })).rejects.toThrow(/in use|busy|block job/);
  await expect(execute('x-snapshot', { disk: device, filename: path('x.qcow2') })).rejects.toThrow(
    'block job slow (stream) runs: wait for it, or block-job-cancel it',
  );
  await execute('block-job-set-speed', { device: 'slow', speed: 131072 });
  await execute('block-job-cancel', { device: 'slow' });
  await expect.poll(() => told('BLOCK_JOB_CANCELLED')).toMatchObject([{ device: 'slow', type: 'stream' }]);
  expect(await jobs()).toEqual([]);
  await guest.write(0, randomBytes(4096));
  await execute('block-stream', { device });
  await expect.poll(() => told('BLOCK_JOB_COMPLETED'), { timeout: 20_000 }).toHaveLength(1);
});

qemu.it('a helper that dies takes its job with it, and the disk goes on', async () => {
  const { guest, device, content } = await attachLayered();
  await execute('block-stream', { device, speed: 65536 });
  for (const pid of processesWith(path('disk.qcow2'))) process.kill(pid, 'SIGKILL');
  expect(Buffer.from(await guest.read(0, 4 * MIB)).equals(content)).toBe(true);
  await expect.poll(jobs).toEqual([]);
  const error = 'its storage helper has ended';
  await expect.poll(() => told('BLOCK_JOB_COMPLETED')).toMatchObject([{ device, type: 'stream', error }]);
  expect(told('JOB_STATUS_CHANGE').at(-1)).toEqual({ id: device, status: 'null' });
  await execute('block-stream', { device });
  await expect.poll(() => told('BLOCK_JOB_COMPLETED'), { timeout: 20_000 }).toHaveLength(2);
  expect(Buffer.from(await guest.read(0, 4 * MIB)).equals(content)).toBe(true);
});

qemu.it(
  'a job tells how it gets on in the order of QEMU’s, and stays until it is dismissed where that is wanted',
  async () => {
    const { device } = await attachLayered();
    await execute('block-stream', { device, 'job-id': 'a', 'auto-dismiss': false, speed: 65536 });
    await expect(execute('job-dismiss', { id: 'a' })).rejects.toThrow(
      "Job 'a' in state 'running' cannot accept command verb 'dismiss'",
    );
    await execute('job-pause', { id: 'a' });
    await expect.poll(() => execute('query-jobs')).toMatchObject([{ id: 'a', status: 'paused' }]);
    await execute('job-resume', { id: 'a' });
    await execute('block-job-set-speed', { device: 'a', speed: 0 });
    await expect.poll(() => told('BLOCK_JOB_COMPLETED'), { timeout: 20_000 }).toHaveLength(1);
    const states = () => told('JOB_STATUS_CHANGE').map((data) => `${data?.id} ${data?.status}`);
    await expect.poll(() => states().at(-1)).toBe('a concluded');
    expect([states().slice(0, 2), states().slice(-3)]).toEqual([
      ['a created', 'a running'],
      ['a waiting', 'a pending', 'a concluded'],
    ]);
    // Its end is told before it is concluded.
    const names = events.map(({ event, data }) => `${event} ${data?.status ?? ''}`);
    expect(names.indexOf('BLOCK_JOB_COMPLETED ')).toBe(names.indexOf('JOB_STATUS_CHANGE concluded') - 1);
    const info = {
      id: 'a',
      type: 'stream',
      status: 'concluded',
      'current-progress': 8 * MIB,
      'total-progress': 8 * MIB,
    };
    expect([await execute('query-jobs'), await jobs()]).toEqual([[info], []]);
    await expect(execute('job-cancel', { id: 'a' })).rejects.toThrow(
      "Job 'a' in state 'concluded' cannot accept command verb 'cancel'",
    );
    await expect(execute('block-stream', { device, 'job-id': 'a' })).rejects.toThrow("Job ID 'a' already in use");
    await execute('job-dismiss', { id: 'a' });
    await expect.poll(() => states().at(-1)).toBe('a null');
    expect(await execute('query-jobs')).toEqual([]);
    await expect(execute('job-dismiss', { id: 'a' })).rejects.toThrow('Job not found');
    // One that did not begin leaves nothing to dismiss.
    await expect(execute('block-stream', { device, 'job-id': 'b', 'auto-dismiss': false })).rejects.toThrow(
      'nothing to',
    );
    expect(await execute('query-jobs')).toEqual([]);
  },
);

qemu.it('a job that has failed says why for as long as it is not dismissed', async () => {
  const { device } = await attachLayered();
  const target = path('copy.qcow2');
  const task = { device, target, sync: 'full', 'job-id': 'c', 'auto-dismiss': false, speed: 65536 };
  await execute('drive-backup', task);
  for (const pid of processesWith('.copy.qcow2.unfinished')) process.kill(pid, 'SIGKILL');
  const error = expect.stringContaining('the storage helper of');
  await expect
    .poll(() => execute('query-jobs'), { timeout: 10_000 })
    .toMatchObject([{ id: 'c', type: 'backup', status: 'concluded', error }]);
  await execute('block-job-dismiss', { id: 'c' });
  await execute('drive-backup', task);
  await execute('job-cancel', { id: 'c' });
  await expect.poll(() => told('BLOCK_JOB_CANCELLED')).toMatchObject([{ device: 'c' }]);
  await expect.poll(() => execute('query-jobs')).toMatchObject([{ id: 'c', status: 'concluded' }]);
});

describe('what is refused', () => {
  qemu.it('an image without a backing file', async () => {
    await runTool('qemu-img', ['create', '-f', 'qcow2', path('disk.qcow2'), '8M']);
    const { domid } = await daemon.host.host.createDomain({ name: 'guest' });
    await daemon.host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target: `qcow2:${path('disk.qcow2')}` });
    await daemon.host.connectGuest(domid);
    await expect(execute('block-stream', { device: `qdisk-${domid}-51712` })).rejects.toThrow(
      'the image has no backing file: there is nothing to fetch',
    );
  });

  it('a raw image, a disk that is not there, a job that is not there', async () => {
    writeFileSync(path('raw'), Buffer.alloc(MIB));
    const { domid } = await daemon.host.host.createDomain({ name: 'guest' });
    await daemon.host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target: path('raw') });
    await daemon.host.connectGuest(domid);
    await expect(execute('block-stream', { device: `qdisk-${domid}-51712` })).rejects.toThrow('has no backing file');
    await expect(execute('block-stream', { device: 'none' })).rejects.toMatchObject({ class: 'DeviceNotFound' });
    for (const name of ['job-cancel', 'job-pause', 'job-resume', 'job-dismiss']) {
      await expect(execute(name, { id: 'none' })).rejects.toThrow('Job not found');
    }
    for (const name of ['block-job-cancel', 'block-job-pause', 'block-job-resume']) {
      await expect(execute(name, { device: 'none' })).rejects.toMatchObject({ class: 'DeviceNotActive' });
    }
    expect(await jobs()).toEqual([]);
  });
});
