import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { QmpClient, type QmpEvent } from '@xenpv/qmp';
import { needs } from '@xenpv/test-support';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TestDaemon } from '../../testing/daemon.js';
import { runTool } from '../../tools.js';

const MIB = 1 << 20;

let daemon: TestDaemon;
let client: QmpClient;
let events: QmpEvent[];
let domid: number;

beforeEach(async () => {
  daemon = await TestDaemon.create();
  ({ client, events } = await daemon.startControlled());
  ({ domid } = await daemon.host.host.createDomain({ name: 'guest' }));
  writeFileSync(image(), randomBytes(2 * MIB));
});
afterEach(async () => {
  client.close();
  await daemon[Symbol.asyncDispose]();
});

const image = () => daemon.host.path('image');
const execute = (command: string, args: object) => client.execute(command, args);
const addNode = () => execute('blockdev-add', { driver: 'file', 'node-name': 'f', filename: image() });
const deleted = () => events.filter(({ event }) => event === 'DEVICE_DELETED').map(({ data }) => data?.device);

/** The sequence that QEMU's own xen-block once failed on. */
async function addAndRemove(format: string): Promise<void> {
  await addNode();
  await execute('blockdev-add', { driver: format, 'node-name': 'q', file: 'f', discard: 'unmap' });
  await execute('device_add', { driver: 'xen-disk', id: 'data', vdev: 'xvdn', drive: 'q', 'frontend-id': domid });
  const guest = await daemon.host.connectGuest(domid, { vdev: 'xvdn' });
  await guest.write(0, randomBytes(4096));
  const inserted = { file: image(), drv: format, 'node-name': 'q' };
  expect(await execute('query-block', {})).toMatchObject([{ qdev: 'data', inserted }]);
  expect(await execute('query-blockstats', { 'query-nodes': true })).toMatchObject([{ 'node-name': 'q' }]);
  expect(await execute('x-query-disks', { disk: 'q' })).toHaveLength(1);
  await execute('block_resize', { device: 'data', size: 3 * MIB });
  await expect.poll(() => guest.size).toBe(3 * MIB);
  await expect(execute('blockdev-del', { 'node-name': 'q' })).rejects.toThrow('Node q is in use by data');
  await expect(execute('blockdev-del', { 'node-name': 'f' })).rejects.toThrow('Node f is in use by q');
  await execute('device_del', { id: 'data' });
  await expect.poll(deleted).toEqual(['data']);
  await execute('blockdev-del', { 'node-name': 'q' });
  await execute('blockdev-del', { 'node-name': 'f' });
  expect(await execute('query-named-block-nodes', {})).toEqual([]);
}

describe('blockdev-add, device_add, device_del, blockdev-del', () => {
  it('of a raw image', () => addAndRemove('raw'));

  needs('qemu-img', 'qemu-storage-daemon', 'Linux').it('of a qcow2 image', async () => {
    await runTool('qemu-img', ['create', '-q', '-f', 'qcow2', image(), '2M']);
    await addAndRemove('qcow2');
  });

  it('of a drive without a medium, and of a node in one', async () => {
    await execute('device_add', { driver: 'xen-cdrom', id: 'drive', 'frontend-id': domid });
    await expect
      .poll(() => execute('query-block', {}))
      .toMatchObject([{ qdev: 'drive', removable: true, tray_open: true }]);
    await execute('blockdev-change-medium', { id: 'drive', filename: image() });
    await expect.poll(() => execute('query-block', {})).toMatchObject([{ inserted: { file: image() } }]);
    await execute('device_del', { id: 'drive' });
    await expect.poll(deleted).toEqual(['drive']);
  });
});

describe('what is refused', () => {
  it.each([
    ['a format of a format', { driver: 'qcow2', 'node-name': 'a', file: 'q' }, 'a format of a format is not served'],
    [
      'a file that is no node',
      { driver: 'raw', 'node-name': 'a', file: 'none' },
      "Failed to find node with node-name='none'",
    ],
    ['no file', { driver: 'raw', 'node-name': 'a' }, "Parameter 'file' is missing"],
    [
      'a filename of a format',
      { driver: 'raw', 'node-name': 'a', filename: '/x' },
      "Parameter 'filename' is unexpected",
    ],
    ['a file of a file', { driver: 'file', 'node-name': 'a', file: 'f' }, "Parameter 'file' is unexpected"],
    ['a path that is none', { driver: 'file', 'node-name': 'a', filename: 'x' }, 'expected a whole path'],
    [
      'a name that is taken',
      { driver: 'file', 'node-name': 'f', filename: '/x' },
      "Duplicate nodes with node-name='f'",
    ],
    ['the name of a disk', { driver: 'file', 'node-name': 'qdisk-1-51712', filename: '/x' }, 'disks have such names'],
    ['a name that is none', { driver: 'file', 'node-name': '#1', filename: '/x' }, "Invalid node-name: '#1'"],
    ['an unknown driver', { driver: 'ssh', 'node-name': 'a' }, "does not accept value 'ssh'"],
    [
      'a nested node that reaches out',
      { driver: 'raw', 'node-name': 'a', file: { driver: 'nbd', host: 'h' } },
      'a driver file or host_device',
    ],
    [
      'a nested node with more',
      { driver: 'raw', 'node-name': 'a', file: { driver: 'file', filename: '/x', more: 1 } },
      'a driver file or host_device',
    ],
  ])('a node with %s', async (_, args, message) => {
    await addNode();
    await execute('blockdev-add', { driver: 'qcow2', 'node-name': 'q', file: 'f' });
    await expect(execute('blockdev-add', args)).rejects.toThrow(message);
    expect(await execute('query-named-block-nodes', {})).toHaveLength(2);
  });

  it.each([
    ['no drive', {}, "Parameter 'drive' is missing"],
    ['a drive that is not there', { drive: 'none' }, "Failed to find node with node-name='none'"],
    ['a guest that is not there', { drive: 'f', 'frontend-id': 99 }, 'there is no domain 99'],
    ['a vdev that is none', { drive: 'f', vdev: '#' }, '#'],
    ['an id that is none', { drive: 'f', id: 'guest:xvda' }, "Invalid device ID 'guest:xvda'"],
    ['the name of a disk', { drive: 'f', id: 'qdisk-1-51712' }, 'disks have such names by themselves'],
  ])('a device with %s, whose node is free then', async (_, args, message) => {
    await addNode();
    const device = { driver: 'xen-disk', id: 'data', 'frontend-id': domid, ...args };
    await expect(execute('device_add', device)).rejects.toThrow(message);
    await execute('device_add', { driver: 'xen-disk', id: 'data', drive: 'f', 'frontend-id': domid });
    await expect(execute('device_add', { ...device, id: 'data', drive: 'f' })).rejects.toThrow(
      "Duplicate device ID 'data'",
    );
    const second = { driver: 'xen-disk', id: 'more', drive: 'f', 'frontend-id': domid };
    await expect(execute('device_add', second)).rejects.toThrow('Node f is in use by data');
  });

  it('an id that another client is adding a disk by', async () => {
    const second = await QmpClient.connect(daemon.host.path('control'));
    const device = { driver: 'xen-cdrom', id: 'drive', 'frontend-id': domid };
    const added = [client, second].map((each) => each.execute('device_add', device));
    const outcomes = (await Promise.allSettled(added)).map(({ status }) => status);
    second.close();
    expect(outcomes.sort()).toEqual(['fulfilled', 'rejected']);
    expect(await execute('x-query-disks', {})).toHaveLength(1);
  });

  it('device_del of what is not there', async () => {
    await expect(execute('device_del', { id: 'none' })).rejects.toMatchObject({ class: 'DeviceNotFound' });
    await expect(execute('blockdev-del', { 'node-name': 'none' })).rejects.toThrow('Failed to find node');
  });
});
