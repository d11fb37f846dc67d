/** Clients of QMP that others wrote for QEMU, npm's node-qemu and qemu-qmp, as they are. */

import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { needs } from '@xenpv/test-support';
import { QMPClient } from 'node-qemu';
// @ts-expect-error: it has no types
import QMP from 'qemu-qmp';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { TestDaemon } from '../testing/daemon.js';
import { runTool } from '../tools.js';

const MIB = 1 << 20;

let daemon: TestDaemon;

beforeEach(async () => {
  daemon = await TestDaemon.create();
  void daemon.start();
  await daemon.says('ready');
});
afterEach(() => daemon[Symbol.asyncDispose]());

const path = (name: string) => daemon.host.path(name);

/** What is used of qemu-qmp, which has no types. */
interface QemuQmp {
  readonly version: { readonly qemu: { readonly major: number } };
  connect(path: string, done: (error: Error | null) => void): void;
  execute(command: string, args: object, done: (error: Error | null, result: unknown) => void): void;
  once(event: string, listener: () => void): void;
  end(): void;
}

needs('qemu-img', 'qemu-storage-daemon', 'Linux').it(
  'node-qemu adds a disk, backs it up, has it pulled over NBD, and takes it away',
  async () => {
    const { domid } = await daemon.host.host.createDomain({ name: 'guest' });
    await runTool('qemu-img', ['create', '-q', '-f', 'qcow2', path('image'), '4M']);
    const client = new QMPClient({ socketPath: path('control') });
    await client.connect();
    try {
      expect(await client.queryStatus()).toMatchObject({ status: 'running', running: true });
      const file = { driver: 'file', 'node-name': 'f', filename: path('image') };
      await client.execute('blockdev-add', file);
      await client.execute('blockdev-add', { driver: 'qcow2', 'node-name': 'q', file: 'f' });
      const device = { driver: 'xen-disk', id: 'data', vdev: 'xvda', drive: 'q', 'frontend-id': domid };
      await client.deviceAdd(device);
      const guest = await daemon.host.connectGuest(domid);
      const content = Buffer.alloc(4 * MIB);
      randomBytes(MIB).copy(content);
      await guest.write(0, content.subarray(0, MIB));
      expect(await client.queryBlock()).toMatchObject([
        { qdev: 'data', inserted: { drv: 'qcow2', file: path('image') } },
      ]);
      expect(await client.queryBlockStats()).toMatchObject([{ stats: { wr_bytes: MIB } }]);
      expect(await client.queryNamedBlockNodes()).toMatchObject([{ 'node-name': 'q' }, { 'node-name': 'f' }]);
      await expect(client.blockDirtyBitmapClear({ node: 'data', name: 'none' })).rejects.toMatchObject({
        message: expect.stringContaining('none'),
      });
      const ended = once(client, 'BLOCK_JOB_COMPLETED' as never);
      const target = { device: 'data', target: path('backup'), format: 'raw', sync: 'full' };
      await client.transaction([
        { type: 'block-dirty-bitmap-add', data: { node: 'q', name: 'daily' } },
        { type: 'drive-backup', data: target },
      ] as never);
      await ended;
      expect(readFileSync(path('backup')).equals(content)).toBe(true);
      const addr = { type: 'unix', data: { path: path('nbd') } };
      await client.execute('nbd-server-start', { addr });
      await client.execute('nbd-server-add', { device: 'q', name: 'backup' });
      expect(await client.execute('query-block-exports')).toMatchObject([{ id: 'backup', 'node-name': 'q' }]);
      const server = ['-f', 'raw', `nbd+unix:///backup?socket=${path('nbd')}`];
      const pulled = await runTool('qemu-img', ['convert', ...server, '-O', 'raw', path('pulled')]);
      expect(pulled).toMatchObject({ code: 0, stderr: '' });
      expect(readFileSync(path('pulled')).equals(content)).toBe(true);
      const exportDeleted = once(client, 'BLOCK_EXPORT_DELETED' as never);
      await client.execute('nbd-server-stop');
      await exportDeleted;
      await client.execute('block_resize', { device: 'data', size: 8 * MIB });
      await expect.poll(() => guest.size).toBe(8 * MIB);
      const deleted = once(client, 'DEVICE_DELETED' as never);
      await client.deviceDel('data');
      await deleted;
      for (const node of ['q', 'f']) await client.execute('blockdev-del', { 'node-name': node });
      expect(await client.queryNamedBlockNodes()).toEqual([]);
      // All that it may ask for, of a list that QEMU's clients know.
      expect((await client.execute<unknown[]>('query-qmp-schema')).length).toBeGreaterThan(100);
    } finally {
      await client.close();
    }
  },
);

it('qemu-qmp, which ends no line, is answered', async () => {
  const client: QemuQmp = new QMP();
  const execute = (command: string, args: object = {}) =>
    new Promise((resolve, reject) => {
      client.execute(command, args, (error, result) => (error ? reject(error) : resolve(result)));
    });
  await new Promise<void>((resolve, reject) => {
    client.connect(path('control'), (error) => (error ? reject(error) : resolve()));
  });
  try {
    expect(client.version.qemu.major).toBeGreaterThan(0);
    expect(await execute('query-status')).toMatchObject({ running: true });
    const added = new Promise<void>((resolve) => client.once('x_disk_added', resolve));
    const { domid } = await daemon.attach();
    await daemon.host.connectGuest(domid);
    await added;
    expect(await execute('query-block')).toMatchObject([{ device: `qdisk-${domid}-51712` }]);
    await expect(execute('eject', { id: 'none' })).rejects.toThrow(/none/);
    expect(await execute('query-commands')).toContainEqual({ name: 'transaction' });
  } finally {
    client.end();
  }
});
