import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { statSync, truncateSync, writeFileSync } from 'node:fs';
import { createConnection, createServer } from 'node:net';
import { text } from 'node:stream/consumers';
import type { Blkfront } from '@xenpv/blkfront';
import { QmpClient, type QmpEvent } from '@xenpv/qmp';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TestDaemon } from '../testing/daemon.js';
import { runBlockd } from '../testing/process.js';
import { askDaemon } from './ask-daemon.js';

const MIB = 1 << 20;

let daemon: TestDaemon;
let client: QmpClient;
let ended: Promise<number>;
let events: QmpEvent[];

beforeEach(async () => {
  daemon = await TestDaemon.create();
  ({ client, events, ended } = await daemon.startControlled());
});
afterEach(async () => {
  client.close();
  await daemon[Symbol.asyncDispose]();
});

const path = () => daemon.host.path('control');
const execute = (command: string, args?: object) => client.execute(command, args);

/** A guest that is connected to a disk of 2 MiB. */
async function connect(): Promise<{ guest: Blkfront; device: string; domid: number; image: string }> {
  const { domid } = await daemon.attach();
  const guest = await daemon.host.connectGuest(domid);
  return { guest, device: `qdisk-${domid}-51712`, domid, image: daemon.host.path('image') };
}

const eventsOf = (name: string) => events.filter(({ event }) => event === name).map(({ data }) => data);

describe('the control socket', () => {
  it('is for its owner only', () => {
    expect(statSync(path()).mode & 0o077).toBe(0);
  });

  it('says what it is and what it can', async () => {
    expect(client.greeting.QMP.version.package).toMatch(/^xen-blockd \d/);
    expect(await execute('query-status')).toMatchObject({ running: true, status: 'running' });
    expect(await execute('query-name')).toEqual({ name: 'xen-blockd' });
    const names = ((await execute('query-commands')) as { name: string }[]).map(({ name }) => name);
    for (const name of ['query-block', 'query-blockstats', 'block_resize', 'eject', 'quit', 'x-query-disks']) {
      expect(names).toContain(name);
    }
    const schema = (await execute('query-qmp-schema')) as { name: string; 'meta-type': string }[];
    expect(schema).toContainEqual(expect.objectContaining({ name: 'BLOCK_IO_ERROR', 'meta-type': 'event' }));
  });

  it('goes on whatever a client says', async () => {
    for (const said of [
      'nonsense\n',
      '{"execute":',
      `{"execute":"${'x'.repeat(2 * MIB)}`,
      '{"command":"list"}\n',
      '',
    ]) {
      const socket = createConnection(path());
      socket.on('error', () => {});
      await once(socket, 'connect');
      socket.end(said);
      await text(socket).catch(() => '');
    }
    expect(await execute('x-query-disks')).toEqual([]);
  });

  it('a thousand clients that say nothing are let in as far as there is room, and the others told', async () => {
    const sockets = Array.from({ length: 200 }, () => createConnection(path()).on('error', () => {}));
    await Promise.allSettled(sockets.map((socket) => once(socket, 'connect')));
    await expect(QmpClient.connect(path())).rejects.toMatchObject({
      message: expect.stringContaining('clients already'),
    });
    expect(await execute('x-query-disks')).toEqual([]);
    for (const socket of sockets) socket.destroy();
    await expect
      .poll(async () => await askDaemon(path(), { command: 'x-query-disks' }).catch(() => 'full'))
      .toEqual([]);
  });

  it('ends the daemon, whose disks stay connected', async () => {
    const { domid } = await connect();
    expect(await execute('quit')).toEqual({});
    expect(await ended).toBe(0);
    await client.closed;
    expect(await daemon.host.store.read(`/local/domain/0/backend/qdisk/${domid}/51712/state`)).toBe('4');
    // For what is done after each test.
    ended = daemon.start();
    await daemon.says('ready');
  });
});

describe("QEMU's queries", () => {
  it('tell of a disk, what it has done, and how it is made', async () => {
    const { guest, device, domid, image } = await connect();
    await guest.write(0, randomBytes(8192));
    await guest.read(0, 4096);
    await guest.flush();
    const qdev = `/local/domain/0/backend/qdisk/${domid}/51712`;
    expect(await execute('query-block')).toMatchObject([
      {
        device,
        qdev,
        type: 'unknown',
        removable: false,
        locked: false,
        'io-status': 'ok',
        inserted: {
          file: image,
          'node-name': device,
          ro: false,
          drv: 'raw',
          bps: 0,
          iops: 0,
          image: { filename: image, format: 'raw', 'virtual-size': 2 * MIB },
        },
      },
    ]);
    const [{ stats }] = (await execute('query-blockstats')) as [{ stats: Record<string, number> }];
    expect(stats).toMatchObject({
      rd_bytes: 4096,
      wr_bytes: 8192,
      rd_operations: 1,
      wr_operations: 1,
      flush_operations: 1,
      unmap_operations: 0,
      failed_rd_operations: 0,
      invalid_wr_operations: 0,
    });
    expect(stats.rd_total_time_ns).toBeGreaterThan(0);
    expect(await execute('query-blockstats')).toMatchObject([{ device, qdev }]);
    expect(await execute('query-blockstats', { 'query-nodes': true })).toMatchObject([{ 'node-name': device }]);
    expect(await execute('query-named-block-nodes')).toMatchObject([{ 'node-name': device }]);
    expect(await execute('query-block-jobs')).toEqual([]);
  });

  it('tell of nothing where there is nothing', async () => {
    for (const query of ['query-block', 'query-blockstats', 'query-named-block-nodes']) {
      expect(await execute(query)).toEqual([]);
    }
  });
});

describe('block_resize', () => {
  it('makes an image larger, and smaller, and its guest knows', async () => {
    const { guest, device, image } = await connect();
    await execute('block_resize', { device, size: 3 * MIB });
    expect(statSync(image).size).toBe(3 * MIB);
    await expect.poll(() => guest.size).toBe(3 * MIB);
    await execute('block_resize', { 'node-name': device, size: MIB });
    await expect.poll(() => guest.size).toBe(MIB);
    await expect
      .poll(() => eventsOf('X_DISK_RESIZED'))
      .toEqual([
        { device, from: 2 * MIB, to: 3 * MIB },
        { device, from: 3 * MIB, to: MIB },
      ]);
  });

  it.each([
    [{ size: 1 }, 'GenericError', "one of 'device', 'node-name' is needed"],
    [{ device: 'none', size: MIB }, 'DeviceNotFound', 'there is no disk none'],
    [{ device: 'D', 'node-name': 'D', size: MIB }, 'GenericError', "only one of 'device', 'node-name'"],
    [{ device: 'D', size: 1000 }, 'GenericError', 'size 1000: expected a multiple of 512 bytes'],
    [{ device: 'D', size: 0 }, 'GenericError', 'above 0'],
    [{ device: 'D', size: -512 }, 'GenericError', 'must not be negative'],
    [{ device: 'D' }, 'GenericError', "Parameter 'size' is missing"],
  ])('%j is refused, and nothing is changed', async (args, errorClass, message) => {
    const { guest, device, image } = await connect();
    const named = JSON.parse(JSON.stringify(args).replaceAll('"D"', `"${device}"`));
    await expect(execute('block_resize', named)).rejects.toMatchObject({
      class: errorClass,
      message: expect.stringContaining(message),
    });
    expect([statSync(image).size, guest.size]).toEqual([2 * MIB, 2 * MIB]);
  });
});

describe('a drive', () => {
  async function drive(): Promise<{ device: string; domid: number; guest: Blkfront }> {
    const { host } = daemon;
    writeFileSync(host.path('first.iso'), Buffer.alloc(MIB, 1));
    writeFileSync(host.path('second.iso'), Buffer.alloc(2 * MIB, 2));
    const { domid } = await host.host.createDomain({ name: 'drive' });
    const disk = { vdev: 'xvda', target: host.path('first.iso'), deviceType: 'cdrom' } as const;
    await host.host.toolstack.attachDisk(domid, disk);
    return { device: `qdisk-${domid}-51712`, domid, guest: await host.connectGuest(domid) };
  }

  it('gets another medium, and none', async () => {
    const { device, domid, guest } = await drive();
    const params = () => daemon.host.store.read(`/local/domain/0/backend/qdisk/${domid}/51712/params`);
    const filename = daemon.host.path('second.iso');
    await execute('blockdev-change-medium', { id: device, filename });
    await expect.poll(() => guest.size).toBe(2 * MIB);
    expect([...(await guest.read(0, 512))].every((byte) => byte === 2)).toBe(true);
    expect(await params()).toBe(`aio:${filename}`);
    expect(await execute('query-block')).toMatchObject([
      { removable: true, tray_open: false, inserted: { file: filename } },
    ]);
    await execute('eject', { device });
    await expect.poll(() => guest.size).toBe(0);
    const [block] = (await execute('query-block')) as [object];
    expect(block).toMatchObject({ removable: true, tray_open: true });
    expect(block).not.toHaveProperty('inserted');
    await expect(execute('block_resize', { device, size: MIB })).rejects.toMatchObject({ class: 'DeviceNotActive' });
  });

  it.each([
    ['eject', {}],
    ['blockdev-change-medium', { filename: '/images/a.iso' }],
  ])('%s of a disk is refused', async (command, args) => {
    const { device } = await connect();
    await expect(execute(command, { device, ...args })).rejects.toThrow('is no cdrom drive');
  });

  it.each([
    [{ filename: 'a.iso' }, 'expected a whole path'],
    [{ filename: '/a.iso', format: 'tape' }, "does not accept value 'tape'"],
    [{}, "Parameter 'filename' is missing"],
  ])('a medium %j is refused', async (args, message) => {
    const { device } = await drive();
    await expect(execute('blockdev-change-medium', { device, ...args })).rejects.toThrow(message);
  });
});

describe('block_set_io_throttle', () => {
  const NONE = { bps: 0, bps_rd: 0, bps_wr: 0, iops: 0, iops_rd: 0, iops_wr: 0 };

  it('limits a disk, and takes the limits away', async () => {
    const { device } = await connect();
    await execute('block_set_io_throttle', { ...NONE, device, bps: 20 * MIB, iops: 500, iops_max: 50 });
    expect(await execute('x-query-disks')).toMatchObject([{ limits: 'iops=500,bandwidth=20M,iops-burst=50' }]);
    expect(await execute('query-block')).toMatchObject([{ inserted: { bps: 20 * MIB, iops: 500, iops_max: 50 } }]);
    await execute('block_set_io_throttle', { ...NONE, id: device });
    expect(await execute('x-query-disks')).toMatchObject([{ limits: 'none' }]);
  });

  it.each([
    [{ ...NONE, bps_rd: 1 }, 'bps_rd must be 0'],
    [{ ...NONE, iops_max: 1 }, 'a burst is of something that is limited'],
    [{ bps: 1 }, "Parameter 'iops' is missing"],
  ])('%j is refused', async (args, message) => {
    const { device } = await connect();
    await expect(execute('block_set_io_throttle', { device, ...args })).rejects.toThrow(message);
  });
});

describe('what happens', () => {
  it('is told: a disk comes, connects, closes and goes', async () => {
    const { guest, device, domid } = await connect();
    await expect
      .poll(() => eventsOf('X_DISK_CONNECTED'))
      .toMatchObject([{ device, queues: 1, adopted: false, recovered: 0 }]);
    expect(eventsOf('X_DISK_ADDED')).toEqual([{ device }]);
    await guest.close();
    await daemon.host.host.toolstack.detachDisk(domid, 'xvda');
    await expect.poll(() => eventsOf('DEVICE_DELETED')).toEqual([{ device, path: device }]);
    expect(eventsOf('X_DISK_CLOSED').length).toBeGreaterThan(0);
  });
});

describe('a question to the daemon', () => {
  it('is let go of by who asks, whether it refuses or not: one who looks again and again keeps nobody out', async () => {
    for (let i = 0; i < 40; i++) {
      await askDaemon(path(), { command: 'x-query-disks' });
      await expect(askDaemon(path(), { command: 'dance' })).rejects.toMatchObject({
        cause: { class: 'CommandNotFound' },
      });
    }
  });

  it('rejects with the words of the daemon', async () => {
    await expect(askDaemon(path(), { command: 'dance' })).rejects.toMatchObject({
      code: 'ERR_SOCKET',
      op: 'ask daemon',
      path: path(),
      message: 'the daemon answers: The command dance has not been found',
    });
  });

  it('says what to do when nobody is there', async () => {
    const { code, stderr } = await runBlockd('list', '--socket', daemon.host.path('none'));
    expect(code).not.toBe(0);
    expect(stderr).toContain('start it with systemctl start xen-blockd');
  });

  it.each([
    ['an older daemon', '{"error":"QMP"}\n', /no xen-blockd of this version|the daemon answers/],
    ['something else', 'SSH-2.0-OpenSSH_9.2\r\n', /no xen-blockd of this version/],
  ])('says so when %s answers', async (_, said, message) => {
    const other = daemon.host.path('other');
    const server = createServer((socket) => socket.on('error', () => {}).write(said));
    await once(server.listen(other), 'listening');
    await expect(askDaemon(other, { command: 'x-query-disks' })).rejects.toThrow(message);
    server.close();
  });
});

it('an image that grows behind its back is seen by x-refresh', async () => {
  const { guest, image } = await connect();
  truncateSync(image, 4 * MIB);
  await execute('x-refresh');
  await expect.poll(() => guest.size).toBe(4 * MIB);
});
