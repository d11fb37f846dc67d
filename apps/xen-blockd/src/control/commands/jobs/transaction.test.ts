import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { QmpClient, QmpEvent } from '@xenpv/qmp';
import { needs } from '@xenpv/test-support';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { TestDaemon } from '../../../testing/daemon.js';
import { processesWith } from '../../../testing/storage-helpers.js';
import { runTool } from '../../../tools.js';

const MIB = 1 << 20;
const SOON = { timeout: 10_000, interval: 20 };
/** Where a guest writes a number, again and again. */
const COUNTER_AT = 6 * MIB;

let daemon: TestDaemon;
let client: QmpClient;
let events: QmpEvent[];

beforeEach(async () => {
  daemon = await TestDaemon.create();
  mkdirSync(path('backup'));
  ({ client, events } = await daemon.startControlled());
});
afterEach(async () => {
  client.close();
  await daemon[Symbol.asyncDispose]();
});

const path = (name: string) => daemon.host.path(name);
const execute = (command: string, args: object = {}) => client.execute(command, args);
const transaction = (...actions: object[]) => execute('transaction', { actions });
const attach = (name = 'xvda') => daemon.attachQcow2(path(`${name}.qcow2`), `guest-${name}`);
const ended = (times: number) =>
  expect.poll(() => events.filter(({ event }) => event === 'BLOCK_JOB_COMPLETED'), SOON).toHaveLength(times);
const inBackup = () => readdirSync(path('backup'));

function backup(device: string, name: string, more: object = {}) {
  return {
    type: 'drive-backup',
    data: { device, target: path(`backup/${name}`), format: 'raw', sync: 'full', ...more },
  };
}
const bitmap = (what: string, node: string, name: string, more: object = {}) => ({
  type: `block-dirty-bitmap-${what}`,
  data: { node, name, ...more },
});
/** A client that gives a command, and is gone when it hears of the first job. */
async function goesAway(command: object): Promise<void> {
  const socket = createConnection(path('control'));
  socket.setEncoding('utf8').write(`{"execute":"qmp_capabilities"}${JSON.stringify(command)}`);
  for await (const text of socket) if (text.includes('JOB_STATUS_CHANGE')) break;
}
async function bitmaps(): Promise<unknown[]> {
  const blocks = (await execute('query-block')) as { inserted: { 'dirty-bitmaps'?: { name: string }[] } }[];
  return blocks.flatMap(({ inserted }) => inserted['dirty-bitmaps'] ?? []).map(({ name }) => name);
}

const qemu = needs('qemu-img', 'qemu-storage-daemon', 'Linux');

qemu.describe('a transaction', () => {
  it('backs several disks up as they are at one instant, while their guests write', async () => {
    const [a, b] = [await attach('a'), await attach('b')];
    let isOver = false;
    const write = async () => {
      const number = Buffer.alloc(4096);
      for (let n = 1; !isOver; n++) {
        number.writeUInt32LE(n);
        await a.guest.write(COUNTER_AT, number);
        await b.guest.write(COUNTER_AT, number);
      }
      return number.readUInt32LE();
    };
    const written = write();
    for (let round = 1; round <= 5; round++) {
      await sleep(50);
      await transaction(backup(a.device, `a${round}`), backup(b.device, `b${round}`));
      await ended(2 * round);
    }
    isOver = true;
    expect(await written).toBeGreaterThan(10);
    for (let round = 1; round <= 5; round++) {
      const [first, second] = ['a', 'b'].map((name) =>
        readFileSync(path(`backup/${name}${round}`)).readUInt32LE(COUNTER_AT),
      ) as [number, number];
      expect(first - second, `round ${round}: ${first}, ${second}`).toBeOneOf([0, 1]);
    }
  });

  it('begins a bitmap and a backup between two writes: what comes later is in the bitmap, and not in the backup', async () => {
    const { guest, device, content } = await attach();
    const old = bitmap('add', device, 'old', { granularity: 65536 });
    await transaction(old, backup(device, 'full', { speed: MIB }));
    const later = randomBytes(65536);
    await guest.write(7 * MIB, later);
    await execute('block-job-set-speed', { device, speed: 0 });
    await ended(1);
    expect(readFileSync(path('backup/full')).equals(content)).toBe(true);
    later.copy(content, 7 * MIB);
    // As libvirt does it: a new one begins where the old one ends, which is then put into one that a backup goes by.
    await transaction(
      bitmap('add', device, 'new'),
      bitmap('disable', device, 'old'),
      bitmap('add', device, 'both', { disabled: true, granularity: 65536 }),
      { type: 'block-dirty-bitmap-merge', data: { node: device, target: 'both', bitmaps: ['old'] } },
      backup(device, 'next', { format: 'qcow2', sync: 'bitmap', bitmap: 'both', 'bitmap-mode': 'never' }),
    );
    await ended(2);
    expect((await bitmaps()).sort()).toEqual(['both', 'new', 'old']);
    const { stdout } = await runTool('qemu-img', ['map', '--output=json', path('backup/next')]);
    const own = JSON.parse(stdout).filter(({ data }: { data: boolean }) => data);
    expect(own).toMatchObject([{ start: 7 * MIB, length: 65536 }]);
  });

  it('with an action that cannot be done does nothing at all, on no disk', async () => {
    const [a, b] = [await attach('a'), await attach('b')];
    const bad: readonly [object, RegExp][] = [
      [bitmap('clear', b.device, 'none'), /none/],
      [backup(b.device, 'none/x'), /its folder is not there/],
      [backup('none', 'x'), /none/],
      [bitmap('clear', b.device, 'b', { node: 1 }), /node/],
      [{ type: 'block-dirty-bitmap-clear', data: null }, /./],
      [backup(b.device, 'b', { 'job-id': '1 job' }), /Invalid job ID '1 job'/],
      [{ type: 'abort', data: {} }, /Transaction aborted using Abort action/],
    ];
    const good = [bitmap('add', a.device, 'x'), backup(a.device, 'a'), bitmap('add', b.device, 'y')];
    for (const [action, reason] of bad) {
      for (const actions of [
        [...good, action],
        [action, ...good],
      ]) {
        await expect(transaction(...actions)).rejects.toThrow(reason);
        expect(await bitmaps()).toEqual([]);
        expect(await execute('query-jobs')).toEqual([]);
        await expect.poll(inBackup, SOON).toEqual([]);
      }
    }
    expect(events.filter(({ event }) => event.includes('JOB'))).toEqual([]);
    expect(processesWith('.unfinished')).toEqual([]);
    await transaction(...good, backup(b.device, 'b'));
    await ended(2);
    expect(await bitmaps()).toEqual(['x', 'y']);
    for (const { guest } of [a, b]) await guest.write(0, randomBytes(4096));
  });

  it('whose client goes away in the middle of it is done on all disks or on none', async () => {
    const [a, b] = [await attach('a'), await attach('b')];
    const all = async () => [(await bitmaps()).length, ((await execute('query-jobs')) as unknown[]).length];
    for (let round = 0; round < 6; round++) {
      const actions = [
        ...[backup(a.device, 'a', { speed: 1 }), bitmap('add', a.device, 'x')],
        ...[bitmap('add', b.device, 'x'), backup(b.device, 'b', { speed: 1 })],
      ];
      await goesAway({ execute: 'transaction', arguments: { actions } });
      // Each backup has a bitmap of its own besides.
      await expect
        .poll(async () => [await all(), inBackup().length], SOON)
        .toBeOneOf([
          [[4, 2], 2],
          [[0, 0], 0],
        ]);
      const isDone = (await all())[1] === 2;
      for (const { device } of isDone ? [a, b] : []) {
        await execute('block-job-cancel', { device, force: true });
        await execute('block-dirty-bitmap-remove', { node: device, name: 'x' });
      }
      await expect.poll(async () => [await all(), inBackup().length], SOON).toEqual([[0, 0], 0]);
    }
  });

  it('whose second helper does not answer ends, and guests go on', async () => {
    const [a, b] = [await attach('a'), await attach('b')];
    const [helper] = processesWith(b.image);
    // It has answered before.
    expect(await bitmaps()).toEqual([]);
    process.kill(helper as number, 'SIGSTOP');
    try {
      await expect(transaction(bitmap('add', a.device, 'x'), bitmap('add', b.device, 'y'))).rejects.toMatchObject({
        class: 'GenericError',
      });
      await a.guest.write(0, randomBytes(4096));
    } finally {
      process.kill(helper as number, 'SIGCONT');
    }
    await b.guest.write(0, randomBytes(4096));
    await expect.poll(bitmaps, SOON).toEqual([]);
  });

  it('is refused with two backups of a disk, two jobs of one id, an unknown action, and jobs that are grouped', async () => {
    const [a, b] = [await attach('a'), await attach('b')];
    await expect(transaction(backup(a.device, 'x'), backup(a.device, 'y', { 'job-id': 'y' }))).rejects.toThrow(
      'one at a time',
    );
    const same = { 'job-id': 'same' };
    await expect(transaction(backup(a.device, 'x', same), backup(b.device, 'y', same))).rejects.toThrow(
      "Job ID 'same' already in use",
    );
    await expect(transaction({ type: 'blockdev-snapshot-sync', data: {} })).rejects.toThrow('does not accept value');
    const properties = { 'completion-mode': 'grouped' };
    await expect(execute('transaction', { actions: [], properties })).rejects.toThrow('does not accept value');
    expect(await transaction()).toEqual({});
    expect(inBackup()).toEqual([]);
  });
});
