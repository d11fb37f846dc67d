import { randomBytes } from 'node:crypto';
import { existsSync, writeFileSync } from 'node:fs';
import { Blkfront } from '@xenpv/blkfront';
import { unplugDevice } from '@xenpv/xenbus';
import { XenstoreClient } from '@xenpv/xenstore';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { DeviceStatus } from '../status/disks/device-status.js';
import { TestDaemon } from '../testing/daemon.js';
import { runBlockd } from '../testing/process.js';
import { askDaemon } from './ask-daemon.js';

const MIB = 1 << 20;

type BackendType = 'qdisk' | 'vbd3' | 'vbd';

let daemon: TestDaemon;

beforeEach(async () => {
  daemon = await TestDaemon.create();
});
afterEach(() => daemon[Symbol.asyncDispose]());

async function serve(config: Parameters<TestDaemon['start']>[0] = {}): Promise<number> {
  void daemon.start(config);
  await daemon.says('ready');
  writeFileSync(daemon.host.path('image'), randomBytes(2 * MIB));
  return (await daemon.host.host.createDomain({ name: 'web1' })).domid;
}

const ask = (command: string, args: object) => askDaemon(daemon.host.path('control'), { command, args: { ...args } });
const blockd = (...args: string[]) => runBlockd(...args, '--socket', daemon.host.path('control'));
const image = () => daemon.host.path('image');
const read = (path: string) => daemon.host.store.tryRead(path);

/** Nothing of the domain's disks is in the store. */
async function expectNothing(domid: number): Promise<void> {
  const { store } = daemon.host;
  for (const path of [`/local/domain/${domid}/device/vbd`, `/local/domain/0/backend/qdisk/${domid}`]) {
    expect((await store.tryDirectory(path)) ?? []).toEqual([]);
  }
  expect((await store.tryDirectory(`/libxl/${domid}/device/vbd`)) ?? []).toEqual([]);
}

describe('attach', () => {
  it.each<[BackendType, string]>([
    ['qdisk', 'aio:'],
    ['vbd3', 'aio:'],
    ['vbd', ''],
  ])('gives a guest a disk of type %s that it can use, and detach takes it away', async (type, before) => {
    const domid = await serve({ types: [type] });
    const attaching = ask('x-attach', { domain: 'web1', image: image() });
    attaching.catch(() => {});
    await expect.poll(() => read(`/local/domain/${domid}/device/vbd/51712/state`)).toBeDefined();
    const guest = await daemon.host.connectGuest(domid);
    const [status] = await attaching;
    expect(status).toMatchObject({ device: `${type}-${domid}-51712`, vdev: 'xvda', connected: true, size: 2 * MIB });
    const backend = `/local/domain/0/backend/${type}/${domid}/51712`;
    expect(await read(`${backend}/params`)).toBe(`${before}${image()}`);
    expect(await read(`${backend}/mode`)).toBe('w');
    await guest.write(0, randomBytes(4096));
    const detaching = ask('x-detach', { disk: status.device });
    await guest.closed;
    expect(await detaching).toEqual([]);
    await expectNothing(domid);
  });

  it('cut off by a kill when it is to be taken away again leaves what the next detach removes', async () => {
    const domid = await serve();
    const [{ device }] = await ask('x-attach', { domain: 'web1', image: image(), 'wait-ms': 0 });
    const backend = `/local/domain/0/backend/qdisk/${domid}/51712`;
    const { store } = daemon.host;
    // As far as it comes by itself.
    await unplugDevice(store, 0, { type: 'qdisk', domid, devid: 51712 });
    await expect.poll(() => read(`${backend}/state`)).toBe('6');
    await expect.poll(() => ask('x-query-disks', {})).toEqual([]);
    await expect(ask('x-attach', { domain: 'web1', image: image(), vdev: 'xvda' })).rejects.toThrow('detach that one');
    expect(await ask('x-detach', { disk: device })).toEqual([]);
    await expectNothing(domid);
  });

  it('takes the first free vdev, and libxl sees the disk of a guest of its own', async () => {
    const domid = await serve();
    await daemon.host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target: image() });
    writeFileSync(daemon.host.path('second'), randomBytes(MIB));
    const args = { domain: String(domid), image: daemon.host.path('second'), 'read-only': true, 'wait-ms': 0 };
    // Opened, though nobody waits for the guest.
    expect(await ask('x-attach', args)).toMatchObject([{ vdev: 'xvdb', size: MIB, readOnly: true, connected: false }]);
    expect((await ask('x-query-disks', {})).map(({ vdev }) => vdev)).toEqual(['xvda', 'xvdb']);
    const libxl = `/libxl/${domid}/device/vbd/51728`;
    expect(await read(`${libxl}/backend`)).toBe(`/local/domain/0/backend/qdisk/${domid}/51728`);
    expect(await read(`/local/domain/0/backend/qdisk/${domid}/51728/mode`)).toBe('r');
    // As the end of a domain does.
    await daemon.host.host.toolstack.detachAll(domid);
    await expectNothing(domid);
  });

  it('of a guest whose driver does not come leaves the disk, which it may connect later', async () => {
    const domid = await serve();
    const [status] = await ask('x-attach', { domain: 'web1', image: image(), 'wait-ms': 300 });
    expect(status).toMatchObject({ connected: false });
    const guest = await daemon.host.connectGuest(domid);
    expect(guest.size).toBe(2 * MIB);
    await guest.close();
  });

  it.each<[string, object, string]>([
    ['a guest that is not there', { domain: 'web2' }, 'there is no domain web2; the domains are Domain-0, web1'],
    ['a number of no guest', { domain: '99' }, 'there is no domain 99'],
    ['a vdev that is none', { vdev: 'disk one' }, 'disk one'],
    ['an image that is not there', { image: '/none/such' }, '/none/such does not exist'],
    ['no image', { image: '' }, 'the disk needs an image'],
    ['an unknown format', { format: 'tape' }, 'format tape: expected one of raw, qcow2'],
    ['a type that is not served', { type: 'vbd3' }, 'type vbd3 is not served; this daemon serves qdisk'],
    ['a word too much', { colour: 'red' }, "Parameter 'colour' is unexpected"],
  ])('refuses %s, and leaves nothing', async (_, args, message) => {
    const domid = await serve();
    await expect(ask('x-attach', { domain: 'web1', image: image(), ...args })).rejects.toThrow(message);
    await expectNothing(domid);
    expect(existsSync(image())).toBe(true);
  });

  it('refuses a vdev that is taken, which stays as it is', async () => {
    const domid = await serve();
    await daemon.host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target: image() });
    const guest = await daemon.host.connectGuest(domid);
    const again = ask('x-attach', { domain: 'web1', image: image(), vdev: 'xvda' });
    await expect(again).rejects.toThrow(`domain ${domid} has a disk xvda already`);
    await guest.write(0, randomBytes(512));
    await guest.close();
  });

  it('of one image for two guests refuses the second, and takes it away again', async () => {
    const domid = await serve();
    await ask('x-attach', { domain: 'web1', image: image(), 'wait-ms': 0 });
    const other = (await daemon.host.host.createDomain({ name: 'web2' })).domid;
    await expect(ask('x-attach', { domain: 'web2', image: image() })).rejects.toThrow('it is in use');
    await expectNothing(other);
    expect(await read(`/local/domain/0/backend/qdisk/${domid}/51712/state`)).toBe('2');
  });

  it('at the same time for one vdev gives it to one', async () => {
    const domid = await serve();
    writeFileSync(daemon.host.path('second'), randomBytes(MIB));
    const args = { domain: 'web1', vdev: 'xvda', 'wait-ms': 0 };
    const outcomes = await Promise.allSettled(
      [image(), daemon.host.path('second')].map((path) => ask('x-attach', { ...args, image: path })),
    );
    expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    expect(await daemon.host.store.directory(`/local/domain/${domid}/device/vbd`)).toEqual(['51712']);
  });
});

describe('detach', () => {
  it('by force takes a disk from a guest that does not let go', async () => {
    const domid = await serve();
    await daemon.host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target: image() });
    const { provider } = daemon.host.host.domains[0];
    const store = XenstoreClient.open(await provider.connectXenstore());
    await Blkfront.connect({ provider, store, vdev: 'xvda' });
    // It hears of nothing any more.
    await store.close();
    const { code, stdout } = await blockd('detach', `qdisk-${domid}-51712`, '--force', '--json');
    expect([code, JSON.parse(stdout)]).toEqual([0, []]);
    await expectNothing(domid);
  });

  it('of a disk that is not there says which there are', async () => {
    await serve();
    const { code, stderr } = await blockd('detach', 'qdisk-99-1');
    expect(code).not.toBe(0);
    expect(stderr).toContain('there is no disk qdisk-99-1; there are no disks');
  });
});

it('the command attaches, and prints the disk', async () => {
  const domid = await serve();
  const { code, stdout, stderr } = await blockd('attach', 'web1', image(), '--vdev', 'xvdc', '--wait', '0', '--json');
  expect([code, stderr]).toEqual([0, '']);
  expect((JSON.parse(stdout) as DeviceStatus[])[0]).toMatchObject({ vdev: 'xvdc', device: `qdisk-${domid}-51744` });
  expect(await blockd('attach', 'web1')).toMatchObject({ code: 2 });
  expect(await blockd('attach', '--help')).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('xen-blockd attach web1'),
  });
  const refused = await blockd('attach', 'web1', '/none/such');
  expect(refused).toMatchObject({ stderr: expect.stringContaining('/none/such does not exist') });
  expect(refused.code).not.toBe(0);
});
