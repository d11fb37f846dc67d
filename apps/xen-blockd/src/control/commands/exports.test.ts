import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { createConnection, createServer, type Socket } from 'node:net';
import { openNbdImage } from '@xenpv/blockdev';
import type { QmpClient, QmpEvent } from '@xenpv/qmp';
import { needs } from '@xenpv/test-support';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TestDaemon } from '../../testing/daemon.js';
import { processesWith } from '../../testing/storage-helpers.js';
import { runTool } from '../../tools.js';

const MIB = 1 << 20;
const SOON = { timeout: 10_000, interval: 20 };

let daemon: TestDaemon;
let client: QmpClient;
let events: QmpEvent[];
let sockets: Socket[];

beforeEach(async () => {
  daemon = await TestDaemon.create();
  await start();
  sockets = [];
});
afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  client.close();
  await daemon[Symbol.asyncDispose]();
});

async function start(): Promise<void> {
  ({ client, events } = await daemon.startControlled());
}

const path = (name: string) => daemon.host.path(name);
const execute = (command: string, args: object = {}) => client.execute(command, args);
const UNIX = () => ({ addr: { type: 'unix', data: { path: path('nbd') } } });
const uri = (name: string) => `nbd+unix:///${name}?socket=${path('nbd')}`;
const deleted = () => events.filter(({ event }) => event === 'BLOCK_EXPORT_DELETED').map(({ data }) => data?.id);
const exports = () => execute('query-block-exports');

/** A guest with a raw disk of 2 MiB. */
async function attach(name = 'image') {
  const { domid, data } = await daemon.attach(name);
  const guest = await daemon.host.connectGuest(domid);
  return { guest, domid, data, device: `qdisk-${domid}-51712`, image: path(name) };
}

async function tool(program: string, args: string[]): Promise<string> {
  const { code, stdout, stderr } = await runTool(program, args);
  expect({ program, code, stderr: code === 0 ? '' : stderr }).toEqual({ program, code: 0, stderr: '' });
  return stdout;
}

/** A client that has chosen an export, and has `requests` of 1 MiB on their way, whose answers it does not read. */
async function greedy(name: string, requests: number): Promise<{ socket: Socket; closed: Promise<unknown> }> {
  const socket = createConnection(path('nbd'));
  sockets.push(socket);
  socket.on('error', () => {});
  const closed = once(socket, 'close');
  const option = Buffer.alloc(16);
  option.write('IHAVEOPT', 'latin1');
  option.writeUInt32BE(1, 8);
  option.writeUInt32BE(name.length, 12);
  socket.write(Buffer.concat([Buffer.from([0, 0, 0, 3]), option, Buffer.from(name)]));
  for (let i = 0; i < requests; i++) {
    const request = Buffer.alloc(28);
    request.writeUInt32BE(0x25609513, 0);
    request.writeUInt32BE(MIB, 24);
    socket.write(request);
  }
  let seen = 0;
  socket.on('data', ({ length }) => {
    seen += length;
  });
  // The server's greeting, and the size and flags of the export.
  while (seen < 18 + 10) await once(socket, 'data');
  socket.pause();
  return { socket, closed };
}

needs('qemu-img', 'qemu-storage-daemon', 'nbdcopy', 'nbdinfo', 'Linux').describe('real clients', () => {
  it.each([
    ['a raw', () => attach()],
    ['a qcow2', () => daemon.attachQcow2(path('image.qcow2'), 'guest')],
  ])('copy %s disk whose guest uses it, with what the guest wrote last', async (_, attached) => {
    const { guest, device } = await attached();
    await execute('nbd-server-start', UNIX());
    await execute('nbd-server-add', { device, name: 'web1', description: 'of a test' });
    const said = JSON.parse(await tool('nbdinfo', ['--json', uri('web1')])).exports[0];
    expect(said).toMatchObject({ 'export-name': 'web1', description: 'of a test', is_read_only: true });
    expect(said['export-size']).toBe(guest.size);
    await guest.write(MIB, randomBytes(MIB));
    const content = Buffer.from(await guest.read(0, guest.size));
    await tool('nbdcopy', [uri('web1'), path('copy')]);
    expect(readFileSync(path('copy')).equals(content)).toBe(true);
    await guest.write(0, randomBytes(4096));
    await tool('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', uri('web1'), path('copy.qcow2')]);
    await tool('qemu-img', ['compare', path('copy.qcow2'), uri('web1')]);
    expect(await guest.read(0, guest.size)).not.toEqual(content);
    const refused = await runTool('qemu-io', ['-f', 'raw', '-c', 'write 0 512', uri('web1')]);
    expect(refused).not.toMatchObject({ code: 0 });
    await execute('nbd-server-stop');
    expect(deleted()).toEqual(['web1']);
  });

  it('see what there is, and nothing without a name', async () => {
    const [one, other] = [await attach('one'), await attach('other')];
    await execute('nbd-server-start', UNIX());
    await execute('nbd-server-add', { device: one.device });
    await execute('block-export-add', { type: 'nbd', id: 'e', 'node-name': other.device, name: 'other' });
    expect(await exports()).toEqual([
      { id: one.device, type: 'nbd', 'node-name': one.device, 'shutting-down': false },
      { id: 'e', type: 'nbd', 'node-name': other.device, 'shutting-down': false },
    ]);
    const listed = JSON.parse(await tool('nbdinfo', ['--list', '--json', uri('')])).exports as {
      'export-name': string;
    }[];
    expect(listed.map((each) => each['export-name'])).toEqual([one.device, 'other']);
    expect((await runTool('nbdinfo', [uri('')])).code).not.toBe(0);
    const image = await openNbdImage(path('nbd'), { exportName: 'other', readOnly: true });
    expect(image.size).toBe(2 * MIB);
    await image.close();
  });

  it('read by a port of localhost, which only this machine reaches', async () => {
    const { device, data } = await attach();
    const taken = createServer();
    await once(taken.listen(0, '127.0.0.1'), 'listening');
    const { port } = taken.address() as { port: number };
    const addr = { type: 'inet', data: { host: '127.0.0.1', port: String(port) } };
    await expect(execute('nbd-server-start', { addr })).rejects.toThrow(/cannot listen on 127.0.0.1.*EADDRINUSE/);
    taken.close();
    await once(taken, 'close');
    await execute('nbd-server-start', { addr });
    await execute('nbd-server-add', { device });
    await tool('nbdcopy', [`nbd://127.0.0.1:${port}/${device}`, path('copy')]);
    expect(readFileSync(path('copy')).equals(data)).toBe(true);
  });

  it('wait for a helper that was killed, and go on', async () => {
    const { device, content, image } = await daemon.attachQcow2(path('image.qcow2'), 'guest');
    await execute('nbd-server-start', UNIX());
    await execute('nbd-server-add', { device });
    for (const pid of processesWith(image)) process.kill(pid, 'SIGKILL');
    await tool('nbdcopy', [uri(device), path('copy')]);
    expect(readFileSync(path('copy')).equals(content)).toBe(true);
    expect(deleted()).toEqual([]);
  });
});

describe('what an export tells besides data', () => {
  type Range = [offset: number, length: number, flags: number];

  /** As nbdinfo has it. */
  async function map(name: string, context = 'base:allocation'): Promise<Range[]> {
    const found = JSON.parse(await tool('nbdinfo', [`--map=${context}`, '--json', uri(name)]));
    return found.map(({ offset, length, type }: Record<string, number>) => [offset, length, type]);
  }

  const depths = { type: 'nbd', id: 'deep', name: 'deep', 'allocation-depth': true };

  needs('nbdinfo', 'nbdcopy', 'Linux').it(
    'is what is a hole of a raw disk, and never what its guest has written',
    async () => {
      writeFileSync(path('image'), '');
      truncateSync(path('image'), 64 * MIB);
      const { domid } = await daemon.host.host.createDomain({ name: 'guest' });
      await daemon.host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target: path('image') });
      const guest = await daemon.host.connectGuest(domid);
      const device = `qdisk-${domid}-51712`;
      await execute('nbd-server-start', UNIX());
      await execute('nbd-server-add', { device });
      expect(await map(device)).toEqual([[0, 64 * MIB, 3]]);
      const written = randomBytes(MIB);
      await guest.write(8 * MIB, written);
      expect(await map(device)).toEqual([
        [0, 8 * MIB, 3],
        [8 * MIB, MIB, 0],
        [9 * MIB, 55 * MIB, 3],
      ]);
      await tool('nbdcopy', [uri(device), path('copy')]);
      expect(
        readFileSync(path('copy'))
          .subarray(8 * MIB, 9 * MIB)
          .equals(written),
      ).toBe(true);
      expect(statSync(path('copy')).blocks * 512).toBeLessThan(2 * MIB);
      await execute('block-export-add', { ...depths, 'node-name': device });
      expect(await map('deep', 'qemu:allocation-depth')).toEqual([[0, 64 * MIB, 1]]);
    },
  );

  needs('nbdinfo', 'qemu-img', 'qemu-storage-daemon', 'Linux').it(
    'is what a bitmap of a qcow2 disk has noted, which nobody changes meanwhile, until its helper ends',
    async () => {
      const { guest, device, image } = await daemon.attachQcow2(path('image.qcow2'), 'guest');
      await execute('nbd-server-start', UNIX());
      const add = { type: 'nbd', id: 'e', name: 'e', 'node-name': device };
      await expect(execute('block-export-add', { ...add, bitmaps: ['b'] })).rejects.toThrow("Bitmap 'b' is not found");
      await execute('block-dirty-bitmap-add', { node: device, name: 'b' });
      await guest.write(2 * MIB, randomBytes(65536));
      await expect(execute('block-export-add', { ...add, bitmaps: ['b'] })).rejects.toThrow(/Enabled bitmap 'b'/);
      await execute('block-dirty-bitmap-disable', { node: device, name: 'b' });
      await execute('block-export-add', {
        ...add,
        bitmaps: ['b', { node: device, name: 'b' }],
        'allocation-depth': true,
      });
      expect(await map('e', 'qemu:dirty-bitmap:b')).toEqual([
        [0, 2 * MIB, 0],
        [2 * MIB, 65536, 1],
        [2 * MIB + 65536, 6 * MIB - 65536, 0],
      ]);
      expect(await map('e', 'qemu:allocation-depth')).toEqual([
        [0, 4 * MIB, 1],
        [4 * MIB, 4 * MIB, 0],
      ]);
      expect(await map('e')).toEqual([
        [0, 4 * MIB, 0],
        [4 * MIB, 4 * MIB, 3],
      ]);
      const remove = () => execute('block-dirty-bitmap-remove', { node: device, name: 'b' });
      await expect(remove()).rejects.toThrow(/in use/);
      await execute('nbd-server-remove', { name: 'e' });
      await expect.poll(deleted, SOON).toEqual(['e']);
      await execute('block-export-add', { ...add, bitmaps: ['b'] });
      await execute('block_resize', { device, size: 16 * MIB });
      await expect.poll(deleted, SOON).toEqual(['e', 'e']);
      await remove();
      await execute('block-export-add', { ...add, id: 'f', 'allocation-depth': true });
      for (const pid of processesWith(image)) process.kill(pid, 'SIGKILL');
      await expect.poll(deleted, SOON).toEqual(['e', 'e', 'f']);
    },
  );
});

needs('nbdcopy', 'qemu-img', 'qemu-storage-daemon', 'Linux').describe('a node that no disk has', () => {
  it.each(['raw', 'qcow2'])('is written by clients (%s), and used by nothing else meanwhile', async (format) => {
    const content = randomBytes(4 * MIB);
    writeFileSync(path('content'), content);
    await tool('qemu-img', ['create', '-q', '-f', format, path('image'), '4M']);
    await execute('blockdev-add', { driver: 'file', 'node-name': 'f', filename: path('image') });
    await execute('blockdev-add', { driver: format, 'node-name': 'spare', file: 'f' });
    await execute('blockdev-add', {
      driver: 'file',
      'node-name': 'fixed',
      filename: path('content'),
      'read-only': true,
    });
    await execute('nbd-server-start', UNIX());
    const add = { type: 'nbd', id: 'e', name: 'e', 'node-name': 'spare', writable: true };
    await expect(execute('block-export-add', { ...add, 'node-name': 'fixed' })).rejects.toThrow('read-only node');
    await expect(execute('block-export-add', { ...add, writethrough: true })).rejects.toThrow('writethrough');
    await expect(execute('block-export-add', { ...add, bitmaps: ['b'] })).rejects.toThrow(/bitmap/i);
    await execute('block-export-add', add);
    await tool('nbdcopy', ['--flush', path('content'), uri('e')]);
    const inUse = 'Node spare is in use by export e';
    await expect(execute('block-export-add', { ...add, id: 'f', name: 'f' })).rejects.toThrow(inUse);
    const { domid } = await daemon.host.host.createDomain({ name: 'guest' });
    const device = { driver: 'xen-disk', id: 'data', drive: 'spare', 'frontend-id': domid };
    await expect(execute('device_add', device)).rejects.toThrow(inUse);
    await expect(execute('blockdev-del', { 'node-name': 'spare' })).rejects.toThrow(inUse);
    const attached = { domain: String(domid), image: path('image'), format };
    await expect(execute('x-attach', attached)).rejects.toThrow(/in use|lock/);
    await execute('nbd-server-remove', { name: 'e' });
    await expect.poll(deleted, SOON).toEqual(['e']);
    const compare = ['compare', '-f', 'raw', '-F', format, path('content'), path('image')];
    expect(await tool('qemu-img', compare)).toContain('identical');
    await execute('device_add', device);
    const guest = await daemon.host.connectGuest(domid);
    expect(Buffer.from(await guest.read(0, 4 * MIB)).equals(content)).toBe(true);
    const taken = await execute('block-export-add', add).catch(String);
    expect(taken).toContain('has one writer');
  });
});

describe('an export ends', () => {
  /** An export with a client that reads, and one that does not read. */
  async function busy() {
    const attached = await attach();
    await execute('nbd-server-start', UNIX());
    await execute('nbd-server-add', { device: attached.device });
    const reader = await greedy(attached.device, 2);
    reader.socket.resume();
    return { ...attached, reader, hanging: await greedy(attached.device, 20) };
  }

  it.each<[string, (attached: Awaited<ReturnType<typeof busy>>) => Promise<unknown>]>([
    ['the disk is detached', ({ domid }) => daemon.host.host.toolstack.detachDisk(domid, 'xvda')],
    ['the image gets another size', ({ device }) => execute('block_resize', { device, size: 4 * MIB })],
    ['somebody removes it', ({ device }) => execute('nbd-server-remove', { name: device, mode: 'hard' })],
    ['the server is stopped', () => execute('nbd-server-stop')],
  ])('when %s, whatever its clients do', async (_, end) => {
    const { reader, hanging, device, image, ...rest } = await busy();
    await end({ reader, hanging, device, image, ...rest });
    await expect.poll(deleted, SOON).toEqual([device]);
    // Only who reads sees the end.
    hanging.socket.resume();
    await Promise.all([reader.closed, hanging.closed]);
    expect(await exports()).toEqual([]);
  });

  it('when another medium comes', async () => {
    for (const name of ['a', 'b']) writeFileSync(path(name), randomBytes(MIB));
    const { domid } = await daemon.host.host.createDomain({ name: 'guest' });
    await daemon.host.host.toolstack.attachDisk(domid, {
      vdev: 'xvda',
      target: path('a'),
      deviceType: 'cdrom',
      readOnly: true,
    });
    await daemon.host.connectGuest(domid);
    const device = `qdisk-${domid}-51712`;
    await execute('nbd-server-start', UNIX());
    await execute('block-export-add', { type: 'nbd', id: 'e', 'node-name': device, name: 'cd' });
    const { socket, closed } = await greedy('cd', 1);
    socket.resume();
    await execute('blockdev-change-medium', { device, filename: path('b') });
    await closed;
    await expect.poll(deleted, SOON).toEqual(['e']);
    await expect
      .poll(() => execute('nbd-server-add', { device, name: 'cd' }).then(() => 'added', String), SOON)
      .toBe('added');
    const image = await openNbdImage(path('nbd'), { exportName: 'cd', readOnly: true });
    await image.close();
    await execute('eject', { device });
    await expect.poll(deleted, SOON).toEqual(['e', 'cd']);
    await expect(execute('nbd-server-add', { device })).rejects.toMatchObject({ class: 'DeviceNotActive' });
  });

  it('when the daemon ends, and the next one has none, nor the socket', async () => {
    const { reader, hanging, device } = await busy();
    daemon.stop();
    await daemon.ended();
    hanging.socket.resume();
    await Promise.all([reader.closed, hanging.closed]);
    expect(deleted()).toEqual([device]);
    expect(existsSync(path('nbd'))).toBe(false);
    await start();
    expect(await exports()).toEqual([]);
    await expect(execute('nbd-server-stop')).rejects.toThrow('NBD server not running');
  });

  it('with safe only when it has no client', async () => {
    const { device, reader, hanging } = await busy();
    const removed = () => execute('block-export-del', { id: device });
    await expect(removed()).rejects.toThrow(`export '${device}' still in use`);
    expect(await exports()).toHaveLength(1);
    for (const { socket } of [reader, hanging]) socket.destroy();
    await expect.poll(() => removed().then(() => 'removed', String), SOON).toBe('removed');
    await expect.poll(deleted, SOON).toEqual([device]);
  });
});

describe('the server', () => {
  it('is one, for its owner only, and leaves no socket', async () => {
    await expect(execute('nbd-server-add', { device: 'none' })).rejects.toThrow('NBD server not running');
    await execute('nbd-server-start', UNIX());
    expect(statSync(path('nbd')).mode & 0o077).toBe(0);
    await expect(execute('nbd-server-start', UNIX())).rejects.toThrow('NBD server already running');
    await execute('nbd-server-stop');
    expect(existsSync(path('nbd'))).toBe(false);
    await expect(execute('nbd-server-stop')).rejects.toThrow('NBD server not running');
  });

  it('replaces a socket that a dead process has left, and neither a file nor one in use', async () => {
    const { stderr } = await runTool(process.execPath, [
      '-e',
      `require('net').createServer().listen(${JSON.stringify(path('nbd'))}, () => process.kill(process.pid, 'SIGKILL'))`,
    ]);
    expect(stderr).toBe('');
    expect(existsSync(path('nbd'))).toBe(true);
    await execute('nbd-server-start', UNIX());
    await execute('nbd-server-stop');
    writeFileSync(path('nbd'), 'mine');
    await expect(execute('nbd-server-start', UNIX())).rejects.toThrow('is not a socket');
    expect(readFileSync(path('nbd'), 'utf8')).toBe('mine');
    rmSync(path('nbd'));
    const other = createServer();
    await once(other.listen(path('nbd')), 'listening');
    await expect(execute('nbd-server-start', UNIX())).rejects.toThrow('in use by another process');
    other.close();
    await once(other, 'close');
    await execute('nbd-server-start', UNIX());
  });

  it('hangs up on clients that are too many, or do not choose', async () => {
    const { device } = await attach();
    await execute('nbd-server-start', { ...UNIX(), 'max-connections': 1, 'handshake-max-seconds': 1 });
    await execute('nbd-server-add', { device });
    const silent = createConnection(path('nbd'));
    sockets.push(silent);
    await once(silent, 'readable');
    const more = createConnection(path('nbd')).on('error', () => {});
    sockets.push(more);
    await once(more.resume(), 'close');
    await once(silent.resume(), 'close');
    const image = await openNbdImage(path('nbd'), { exportName: device, readOnly: true });
    await image.close();
  });

  it('listens nowhere else', async () => {
    const refused = (addr: object, reason: string | RegExp, more: object = {}) =>
      expect(execute('nbd-server-start', { addr, ...more })).rejects.toThrow(reason);
    const inet = (host: string, port: string) => ({ type: 'inet', data: { host, port } });
    for (const host of ['0.0.0.0', '::', '', 'example.org', '127.0.0.1.example.org']) {
      await refused(inet(host, '10809'), 'only this machine may');
    }
    for (const port of ['0', '65536', 'nbd', '-1']) await refused(inet('localhost', port), 'from 1 to 65535');
    await refused({ type: 'inet', data: { host: 'localhost' } }, "'addr.data.port' is missing");
    await refused(
      { type: 'inet', data: { path: '/a', host: 'localhost', port: '1' } },
      "'addr.data.path' is unexpected",
    );
    await refused({ type: 'unix', data: {} }, "'addr.data.path' is missing");
    await refused({ type: 'unix', data: { path: '/a', port: '1' } }, "'addr.data.port' is unexpected");
    await refused({ type: 'unix', data: { path: 'nbd' } }, 'expected a whole path');
    await refused({ type: 'unix', data: { path: `/${'x'.repeat(200)}` } }, 'longer than');
    await refused({ type: 'vsock', data: {} }, "does not accept value 'vsock'");
    await refused(UNIX().addr, 'this server has no TLS', { 'tls-creds': 'tls0' });
    await execute('nbd-server-start', UNIX());
  });
});

describe('what is refused', () => {
  it('names that are taken or wrong, disks that are not there, and whatever would write', async () => {
    const { device } = await attach();
    await execute('nbd-server-start', UNIX());
    const add = { type: 'nbd', id: 'e', 'node-name': device, name: 'disk' };
    await execute('block-export-add', add);
    const refused = (args: object, message: string) =>
      expect(execute('block-export-add', { ...add, ...args })).rejects.toMatchObject({
        class: 'GenericError',
        message,
      });
    await refused({}, "Block export id 'e' is already in use");
    await refused({ id: 'f' }, "NBD server already has export named 'disk'");
    await refused({ id: '1 2', name: 'x' }, 'Invalid block export id');
    const none = { id: 'f', name: 'x', 'node-name': 'none' };
    await expect(execute('block-export-add', { ...add, ...none })).rejects.toMatchObject({
      class: 'GenericError',
      message: expect.stringMatching(/^Cannot find device='' nor node-name='none'/),
    });
    const long = execute('block-export-add', { ...add, id: 'f', name: 'x'.repeat(5000) });
    await expect(long).rejects.toThrow(/export name 'x+…' too long/);
    await expect(execute('block-export-add', { ...add, id: 'f', name: 'x', writable: true })).rejects.toThrow(
      "a guest's disk has one writer",
    );
    await expect(execute('block-export-add', { ...add, id: 'f', name: 'x', bitmaps: ['b'] })).rejects.toThrow(
      `${device} has no dirty bitmaps: its image is raw`,
    );
    await expect(execute('block-export-add', { ...add, type: 'fuse' })).rejects.toThrow("does not accept value 'fuse'");
    await expect(execute('nbd-server-remove', { name: 'none' })).rejects.toThrow("Export 'none' is not found");
    await execute('blockdev-add', { driver: 'file', 'node-name': 'spare', filename: path('image') });
    await expect(execute('nbd-server-add', { device: 'spare', writable: true })).rejects.toThrow(
      /it is in use .xvda of domain/,
    );
    expect(await exports()).toHaveLength(1);
    expect(deleted()).toEqual([]);
  });
});

it('a file that grows behind its back ends its export, once the disk has its new size', async () => {
  const { device, image, guest } = await attach();
  await execute('nbd-server-start', UNIX());
  await execute('nbd-server-add', { device });
  truncateSync(image, 3 * MIB);
  await execute('x-refresh', { disk: device });
  await expect.poll(deleted, SOON).toEqual([device]);
  await expect.poll(() => guest.size).toBe(3 * MIB);
  await execute('nbd-server-add', { device });
  const again = await openNbdImage(path('nbd'), { exportName: device, readOnly: true });
  expect(again.size).toBe(3 * MIB);
  await again.close();
});
