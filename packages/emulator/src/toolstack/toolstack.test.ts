import { createDevice } from '@xenpv/xenbus';
import { XenstoreClient } from '@xenpv/xenstore';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { EmulatedDomain } from '../domain.js';
import { EmulatedHost } from '../host.js';
import type { Toolstack } from './toolstack.js';

let host: EmulatedHost;
let guest: EmulatedDomain;
let store: XenstoreClient;

beforeEach(async () => {
  host = await EmulatedHost.create({ toolstackTimeoutMs: 100 });
  guest = await host.createDomain({ name: 'guest' });
  store = XenstoreClient.open(await host.provider().connectXenstore());
});

afterEach(async () => {
  await store.close();
  await host.close();
});

async function tree(path: string): Promise<Record<string, string>> {
  const names = await store.directory(path);
  return Object.fromEntries(await Promise.all(names.map(async (name) => [name, await store.read(`${path}/${name}`)])));
}

/** A backend that only goes along: to `state` when the toolstack made it, to 6 when it is told to close. */
async function answer(path: string, state: number): Promise<void> {
  await store.waitFor(async (ops) => ((await ops.tryRead(`${path}/state`)) === '1' ? true : undefined));
  await store.write(`${path}/state`, state);
  await store.waitFor(async (ops) => ((await ops.tryRead(`${path}/state`)) === '5' ? true : undefined));
  expect(await store.read(`${path}/online`)).toBe('0');
  await store.write(`${path}/state`, 6);
}

describe('a domain', () => {
  it('has the nodes that xl writes, and may write where xl lets it', async () => {
    const path = `/local/domain/${guest.domid}`;
    expect(await store.read(`${path}/name`)).toBe('guest');
    expect(await store.read(`${path}/domid`)).toBe('1');
    expect(await store.read(`${path}/memory/target`)).toBe('65536');
    expect(await store.read(`${await store.read(`${path}/vm`)}/name`)).toBe('guest');
    expect(await store.getPermissions(path)).toEqual([
      { domid: 0, access: 'n' },
      { domid: 1, access: 'r' },
    ]);

    const own = XenstoreClient.open(await guest.provider.connectXenstore());
    expect(await own.read('name')).toBe('guest');
    await own.write('data/mine', 'yes');
    await expect(own.write('name', 'other')).rejects.toMatchObject({ code: 'EACCES' });
    await expect(own.write('backend/qdisk', '')).rejects.toMatchObject({ code: 'EACCES' });
    await expect(own.read('/local/domain/0/name')).rejects.toMatchObject({ code: 'EACCES' });
    await own.close();
  });

  it('may serve devices if it is a driver domain, and only then', async () => {
    const storage = await host.createDomain({ name: 'storage', driverDomain: true });
    const own = XenstoreClient.open(await storage.provider.connectXenstore());
    await own.write('backend/qdisk/1/51712/state', '2');
    await own.close();

    const other = XenstoreClient.open(await guest.provider.connectXenstore());
    await expect(other.write('backend/qdisk/1/51712/state', '2')).rejects.toMatchObject({ code: 'EACCES' });
    await other.close();
  });

  it('is announced to xenstored, and its end too', async () => {
    const introduced = await store.watch('@introduceDomain');
    const released = await store.watch('@releaseDomain');
    const introductions = introduced[Symbol.asyncIterator]();
    const releases = released[Symbol.asyncIterator]();
    await introductions.next();
    await releases.next();
    const second = await host.createDomain({ name: 'second', domid: 7 });
    expect((await introductions.next()).value).toMatchObject({ path: '@introduceDomain' });
    await second.destroy();
    expect((await releases.next()).value).toMatchObject({ path: '@releaseDomain' });
    for (const path of ['/local/domain/7', '/libxl/7']) expect(await store.exists(path)).toBe(false);
    await introduced[Symbol.asyncDispose]();
    await released[Symbol.asyncDispose]();
  });

  it('cannot take a domid that is in use, and leaves its own free', async () => {
    await expect(host.createDomain({ name: 'x', domid: 1 })).rejects.toMatchObject({ code: 'ERR_EXISTS' });
    await expect(host.createDomain({ name: 'x', domid: 0x7ff0 })).rejects.toMatchObject({ code: 'ERR_EXISTS' });
    await Promise.all([guest.destroy(), guest.destroy()]);
    expect(guest.alive).toBe(false);
    expect(() => guest.provider.openEventChannels()).toThrow(/no domain 1/);
    const again = await host.createDomain({ name: 'again', domid: 1 });
    expect(host.domains).toEqual([again]);
  });
});

it.each([0, 10, 100])('a domain whose making is given up after %i steps is not there', async (steps) => {
  const abort = new AbortController();
  const config = { name: 'late', domid: 7, console: true };
  const making = host.createDomain(config, { signal: abort.signal });
  for (let i = 0; i < steps; i++) await Promise.resolve();
  abort.abort(new Error('enough'));
  await expect(making).rejects.toThrow('enough');
  expect(host.domains).toEqual([guest]);
  expect(() => host.provider(7).openEventChannels()).toThrow();
  await expect(host.createDomain(config, { signal: abort.signal })).rejects.toThrow('enough');
  const next = await host.createDomain(config);
  expect(await store.read('/local/domain/7/name')).toBe('late');
  await next.destroy();
  expect(await store.exists('/local/domain/7')).toBe(false);
});

describe('block-attach', () => {
  it('writes a qdisk as xl does, and does not wait', async () => {
    const disk = await host.toolstack.attachDisk(1, { vdev: 'xvda', target: '/images/a.img' });
    expect(disk).toMatchObject({ devid: 51712, frontendDomid: 1, backendDomid: 0 });
    expect(await tree(disk.backendPath)).toEqual({
      frontend: '/local/domain/1/device/vbd/51712',
      'frontend-id': '1',
      online: '1',
      removable: '0',
      bootable: '1',
      state: '1',
      dev: 'xvda',
      type: 'qdisk',
      mode: 'w',
      'device-type': 'disk',
      'discard-enable': '1',
      specification: 'xen',
      params: 'aio:/images/a.img',
    });
    expect(await tree(disk.frontendPath)).toEqual({
      backend: '/local/domain/0/backend/qdisk/1/51712',
      'backend-id': '0',
      state: '1',
      'virtual-device': '51712',
      'device-type': 'disk',
      trusted: '1',
    });
    expect(await store.getPermissions(`${disk.frontendPath}/state`)).toEqual([
      { domid: 1, access: 'n' },
      { domid: 0, access: 'r' },
    ]);
    expect(await store.getPermissions(`${disk.backendPath}/state`)).toEqual([
      { domid: 0, access: 'n' },
      { domid: 1, access: 'r' },
    ]);
    expect(await host.toolstack.disks(1)).toEqual([51712]);
  });

  it('takes keys instead of the usual ones, in both copies', async () => {
    const backendKeys = { online: 0, 'frontend-id': 77 };
    const { backendPath } = await host.toolstack.attachDisk(guest.domid, { vdev: 'xvda', target: '/a', backendKeys });
    for (const path of [backendPath, `/libxl/${guest.domid}/device/vbd/51712`]) {
      expect(await tree(path)).toMatchObject({ online: '0', 'frontend-id': '77', state: '1' });
    }
  });

  it('writes a read-only cdrom in another format, with keys of the caller', async () => {
    const disk = await host.toolstack.attachDisk(1, {
      vdev: 'hdc',
      target: 'x',
      format: 'qcow2',
      deviceType: 'cdrom',
      directIoSafe: true,
      protocol: 'x86_64-abi',
      backendKeys: { 'sector-size': 4096 },
    });
    expect(await tree(disk.backendPath)).toMatchObject({
      mode: 'r',
      'device-type': 'cdrom',
      removable: '1',
      'discard-enable': '0',
      'direct-io-safe': '1',
      params: 'qcow2:x',
      'sector-size': '4096',
    });
    expect(await tree(disk.frontendPath)).toMatchObject({ protocol: 'x86_64-abi', 'virtual-device': '5632' });
  });

  it('waits for InitWait of the other backends, then does what the block script does', async () => {
    const path = '/local/domain/0/backend/vbd3/1/51712';
    const backend = answer(path, 2);
    const disk = await host.toolstack.attachDisk(1, { vdev: 'xvda', target: '/dev/loop0', backendType: 'tap' });
    expect(disk.backendPath).toBe(path);
    expect(await tree(path)).toMatchObject({
      type: 'vbd3',
      script: '/etc/xen/scripts/block-tap',
      params: 'aio:/dev/loop0',
      'physical-device-path': '/dev/loop0',
      'hotplug-status': 'connected',
    });
    await host.toolstack.detachDisk(1, 'xvda');
    await backend;
  });

  it('gives up when the backend does not become ready', async () => {
    const attaching = host.toolstack.attachDisk(1, { vdev: 'xvda', target: 'x', backendType: 'phy' });
    await expect(attaching).rejects.toMatchObject({ name: 'ToolstackError', code: 'ERR_TIMEOUT', op: 'attachDisk' });
  });

  it('refuses what xl refuses', async () => {
    const attach = (domid: number, vdev: string, backendDomid = 0) =>
      host.toolstack.attachDisk(domid, { vdev, target: 'x', backendDomid });
    await attach(1, 'xvda');
    await expect(attach(1, 'xvda')).rejects.toMatchObject({ code: 'ERR_EXISTS' });
    await expect(attach(1, 'disk0')).rejects.toMatchObject({ code: 'ERR_VDEV' });
    await expect(attach(9, 'xvda')).rejects.toMatchObject({ code: 'ERR_NO_DOMAIN' });
    await expect(attach(1, 'xvdb', 9)).rejects.toMatchObject({ code: 'ERR_NO_DOMAIN' });
  });
});

describe('block-detach', () => {
  it('closes, waits for state 6, and removes every directory', async () => {
    const disk = await host.toolstack.attachDisk(1, { vdev: 'xvda', target: 'x' });
    const backend = answer(disk.backendPath, 4);
    await store.waitFor(async (ops) => ((await ops.tryRead(`${disk.backendPath}/state`)) === '4' ? true : undefined));
    await host.toolstack.detachDisk(1, 'xvda');
    await backend;
    for (const path of [disk.backendPath, disk.frontendPath, disk.libxlPath])
      expect(await store.exists(path)).toBe(false);
    expect(await store.exists('/local/domain/0/backend/qdisk/1')).toBe(false);
    await expect(host.toolstack.detachDisk(1, 'xvda')).rejects.toMatchObject({ code: 'ERR_NO_DEVICE' });
  });

  it('leaves everything when the backend does not answer, unless forced', async () => {
    const disk = await host.toolstack.attachDisk(1, { vdev: 'xvda', target: 'x' });
    await expect(host.toolstack.detachDisk(1, 'xvda')).rejects.toMatchObject({ code: 'ERR_TIMEOUT' });
    expect(await store.exists(disk.frontendPath)).toBe(true);
    await host.toolstack.detachDisk(1, 'xvda', { force: true });
    expect(await store.exists(disk.backendPath)).toBe(false);
  });

  it('can be given up', async () => {
    await host.toolstack.attachDisk(1, { vdev: 'xvda', target: 'x' });
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(host.toolstack.detachDisk(1, 'xvda', { signal })).rejects.toThrow('enough');
  });

  it.each<[string, (toolstack: Toolstack, signal: AbortSignal) => Promise<unknown>]>([
    ['attachDisk', (xl, signal) => xl.attachDisk(1, { vdev: 'xvdb', target: 'y' }, { signal })],
    ['attachDevice', (xl, signal) => xl.attachDevice(1, { type: 'vtoy' }, { signal })],
    ['detachDisk', (xl, signal) => xl.detachDisk(1, 'xvda', { signal, force: true })],
    ['changeMedium', (xl, signal) => xl.changeMedium(1, 'xvda', 'z', { signal })],
    ['disks', (xl, signal) => xl.disks(1, { signal })],
    ['detachAll', (xl, signal) => xl.detachAll(1, { signal })],
  ])('%s that is given up before it begins changes nothing', async (_name, call) => {
    await host.toolstack.attachDisk(1, { vdev: 'xvda', target: 'x' });
    const before = [await tree('/local/domain'), await tree('/libxl')];
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(call(host.toolstack, signal)).rejects.toThrow('enough');
    expect([await tree('/local/domain'), await tree('/libxl')]).toEqual(before);
  });

  it('leaves the directory of a driver domain to that domain', async () => {
    const storage = await host.createDomain({ name: 'storage', driverDomain: true });
    const disk = await host.toolstack.attachDisk(1, { vdev: 'xvda', target: 'x', backendDomid: storage.domid });
    expect(disk.backendPath).toBe('/local/domain/2/backend/qdisk/1/51712');
    const backend = answer(disk.backendPath, 4)
      .then(() => store.waitFor(async (ops) => ((await ops.exists(disk.frontendPath)) ? undefined : true)))
      .then(() => store.remove(disk.backendPath));
    await store.waitFor(async (ops) => ((await ops.tryRead(`${disk.backendPath}/state`)) === '4' ? true : undefined));
    await host.toolstack.detachDisk(1, 'xvda');
    await backend;
  });

  it('does not wait by force for a driver domain that keeps its directory, nor does the end of the guest', async () => {
    const { domid: backendDomid } = await host.createDomain({ name: 'storage', driverDomain: true });
    for (const vdev of ['xvda', 'xvdb']) await host.toolstack.attachDisk(1, { vdev, target: 'x', backendDomid });
    await expect(host.toolstack.detachDisk(1, 'xvda')).rejects.toMatchObject({ code: 'ERR_TIMEOUT' });
    await host.toolstack.detachDisk(1, 'xvda', { force: true });
    expect(await host.toolstack.disks(1)).toEqual([51728]);
    await guest.destroy();
    expect(host.domains.map(({ name }) => name)).toEqual(['storage']);
  });
});

describe('cd-insert and cd-eject', () => {
  it('change params and nothing else', async () => {
    const disk = await host.toolstack.attachDisk(1, { vdev: 'hdc', target: '/a.iso', deviceType: 'cdrom' });
    const before = await tree(disk.backendPath);
    await host.toolstack.changeMedium(1, 'hdc', '/b.iso');
    expect(await tree(disk.backendPath)).toEqual({ ...before, params: 'aio:/b.iso' });
    await host.toolstack.changeMedium(1, 'hdc', '');
    expect(await tree(disk.backendPath)).toEqual({ ...before, params: '' });
  });
});

describe('the end of a domain', () => {
  it('goes on when nobody waits for it any more', async () => {
    const slow = await EmulatedHost.create({ toolstackTimeoutMs: 50 });
    const domain = await slow.createDomain({ name: 'guest' });
    await slow.toolstack.attachDisk(domain.domid, { vdev: 'xvda', target: 'x' });
    const abort = new AbortController();
    const { signal } = abort;
    const waits = [domain.destroy({ signal }), slow.destroyDomain(domain.domid, { signal })];
    abort.abort(new Error('enough'));
    for (const wait of waits) await expect(wait).rejects.toThrow('enough');
    await expect(domain.destroy({ signal })).rejects.toThrow('enough');
    expect(domain.alive).toBe(true);
    await domain.destroy();
    expect(domain.alive).toBe(false);
    await slow.close();
  });

  it('forces its disks off, and goes on without a backend', async () => {
    const disk = await host.toolstack.attachDisk(1, { vdev: 'xvda', target: 'x' });
    await guest.destroy();
    expect(await store.exists(disk.backendPath)).toBe(false);
    expect(await store.exists('/local/domain/1')).toBe(false);
  });

  it('ends devices of every kind, those too that another toolstack attached', async () => {
    const vif = await host.toolstack.attachDevice(1, { type: 'vif', backendValues: { mac: '00:16:3e:00:00:01' } });
    const disk = await host.toolstack.attachDisk(1, { vdev: 'xvda', target: 'x' });
    const own = { backendDomid: 0, address: { type: 'sound', domid: 1, devid: 3 }, frontendType: 'vsnd' };
    await createDevice(store, { ...own, backendValues: {}, frontendValues: {} });
    await guest.destroy();
    for (const path of [
      vif.backendPath,
      disk.backendPath,
      '/local/domain/0/backend/sound',
      '/libxl/1',
      '/local/domain/1',
    ]) {
      expect([path, await store.exists(path)]).toEqual([path, false]);
    }
  });

  it('ends no device of another guest, whatever the guest wrote into its own directories', async () => {
    const other = await host.createDomain({ name: 'other' });
    const disk = await host.toolstack.attachDisk(other.domid, { vdev: 'xvda', target: 'x' });
    const own = await host.toolstack.attachDevice(1, { type: 'vif' });
    const client = XenstoreClient.open(await guest.provider.connectXenstore());
    for (const backend of [disk.backendPath, '/local/domain/0/name', '/local/domain/0/backend/qdisk/1/51712', '']) {
      await client.write(`${own.frontendPath}/backend`, backend);
    }
    await client.write(`${own.frontendPath}/backend`, disk.backendPath);
    await client.close();
    await guest.destroy();
    expect(await store.read(`${disk.backendPath}/state`)).toBe('1');
    expect(await store.exists(own.backendPath)).toBe(false);
  });

  it('is told of when it has shut down, but it stays until it is destroyed', async () => {
    const released = await store.watch('@releaseDomain');
    await released.next();
    guest.shutdown('crash');
    guest.shutdown('poweroff');
    expect((await released.next()).value).toMatchObject({ path: '@releaseDomain' });
    expect([guest.alive, guest.shutdownReason]).toEqual([true, 'crash']);
    expect(await store.read('/local/domain/1/name')).toBe('guest');
    expect(() => guest.shutdown('tired' as 'crash')).toThrow(/tired is no reason .*poweroff, reboot, suspend, crash/);
    await guest.destroy();
    await released[Symbol.asyncDispose]();
    const fresh = await host.createDomain({ name: 'fresh', domid: 1 });
    expect(fresh.shutdownReason).toBe(undefined);
    await fresh.destroy();
    fresh.shutdown('crash');
    expect(fresh.shutdownReason).toBe(undefined);
  });

  it('is the end of a closed host too', async () => {
    const channels = guest.provider.openEventChannels();
    channels.listen(() => {});
    await host.close();
    await host.close();
    expect(guest.alive).toBe(false);
    expect(() => host.provider().openGrantTable()).toThrow(/no domain 0/);
    channels.close();
    channels.close();
  });
});

describe('a device of any kind', () => {
  it('is written as libxl does, with the lowest number that is free', async () => {
    const device = {
      type: 'vif',
      backendValues: { mac: '00:16:3e:00:00:01', handle: 0 },
      frontendValues: { mtu: 1500 },
    };
    const first = await host.toolstack.attachDevice(1, device);
    const second = await host.toolstack.attachDevice(1, device);
    expect([first.devid, second.devid]).toEqual([0, 1]);
    expect(await tree(first.backendPath)).toEqual({
      mac: '00:16:3e:00:00:01',
      handle: '0',
      frontend: '/local/domain/1/device/vif/0',
      'frontend-id': '1',
      online: '1',
      state: '1',
    });
    expect(await tree(first.frontendPath)).toMatchObject({ mtu: '1500', backend: first.backendPath, state: '1' });
    await host.toolstack.detachDevice(1, 'vif', 0, { force: true });
    expect((await host.toolstack.attachDevice(1, device)).devid).toBe(0);
  });

  it('is closed by its backend when it is detached', async () => {
    const { backendPath } = await host.toolstack.attachDevice(1, { type: '9pfs', devid: 4 });
    await Promise.all([answer(backendPath, 2), host.toolstack.detachDevice(1, '9pfs', 4)]);
    expect(await store.exists(backendPath)).toBe(false);
  });

  it('is refused where there is one, where there is no domain, and where there is none to detach', async () => {
    await host.toolstack.attachDevice(1, { type: 'vif', devid: 2 });
    const again = host.toolstack.attachDevice(1, { type: 'vif', devid: 2 });
    await expect(again).rejects.toMatchObject({ code: 'ERR_EXISTS', message: 'domain 1 has a vif 2 already' });
    await expect(host.toolstack.attachDevice(9, { type: 'vif' })).rejects.toMatchObject({ code: 'ERR_NO_DOMAIN' });
    const none = host.toolstack.detachDevice(1, 'vif', 3);
    await expect(none).rejects.toMatchObject({ code: 'ERR_NO_DEVICE', message: 'there is no such vif 3' });
  });
});

describe('a console', () => {
  it('is a page and a port that domain 0 finds in xenstore, until the guest ends', async () => {
    const talker = await host.createDomain({ name: 'talker', console: true });
    const { page, port, events } = talker.console!;
    const nodes = await tree(`/local/domain/${talker.domid}/console`);
    expect(nodes).toMatchObject({ type: 'xenconsoled', port: String(port), limit: '1048576', output: 'pty', tty: '' });
    expect(await tree(nodes.backend)).toMatchObject({ frontend: `/local/domain/${talker.domid}/console`, state: '1' });
    const mapping = host
      .provider()
      .openForeignMemory()
      .map(talker.domid, [Number(nodes['ring-ref'])], { writable: true });
    new Uint8Array(mapping.buffer)[mapping.offsets[0]] = 42;
    expect(new Uint8Array(page.buffer)[page.offsets[0]]).toBe(42);
    const ours = host.provider().openEventChannels();
    const told = new Promise((resolve) => events.listen((ports) => resolve(ports[0])));
    ours.notify(ours.bindInterdomain(talker.domid, Number(nodes.port)));
    expect(await told).toBe(port);
    await talker.destroy();
    expect(await store.exists('/local/domain/0/backend/console')).toBe(false);
    ours.close();
  });

  it('takes nothing of the guest once it is closed, and is not there if nobody asked for it', async () => {
    const talker = await host.createDomain({ name: 'talker', console: true });
    talker.console?.close();
    talker.console?.close();
    expect(talker.usage()).toEqual({ grants: 0, mapped: 0, frames: 0, ports: 0, eventHandles: 0 });
    expect(guest.console).toBe(undefined);
    expect(await store.exists('/local/domain/1/console')).toBe(false);
  });
});

describe('the number of a disk', () => {
  const table: [string, number | undefined][] = [
    ['xvda', 51712],
    ['xvdb', 51728],
    ['xvda1', 51713],
    ['xvdp15', 51967],
    ['xvdq', 0x10001000],
    ['xvdaa', (1 << 28) | (26 << 8)],
    ['d0p0', 51712],
    ['d536p37', (1 << 28) | (536 << 8) | 37],
    ['hda', 768],
    ['hdb', 832],
    ['hdc', 5632],
    ['hdd', 5696],
    ['sda', 2048],
    ['51712', 51712],
    ['0xca00', 51712],
    ['hde', undefined],
    ['sdq', undefined],
    ['xvd', undefined],
    ['', undefined],
  ];
  for (const [name, number] of table)
    it(`${name || 'nothing'} is ${number}`, async () => {
      const attached = host.toolstack.attachDisk(1, { vdev: name, target: 'x' });
      if (number !== undefined) expect((await attached).devid).toBe(number);
      else await expect(attached).rejects.toMatchObject({ code: 'ERR_VDEV', op: 'attachDisk' });
    });
});
