import { XenstoreClient } from '@xenpv/xenstore';
import { EmulatedXenstored } from '@xenpv/xenstored';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { XenbusState } from '../states.js';
import { attachDevice, listDevices } from './attach.js';
import { deleteDevice, libxlPath } from './halves.js';

let xenstored: EmulatedXenstored;
let store: XenstoreClient;

beforeEach(() => {
  xenstored = new EmulatedXenstored();
  store = XenstoreClient.open(xenstored.connect(0));
});

afterEach(async () => {
  await store.close();
  await xenstored.close();
});

describe('attachDevice', () => {
  it('writes both halves, each to be read by the other end only', async () => {
    const device = await attachDevice(store, 5, {
      type: 'vshout',
      devid: 3,
      backendDomid: 2,
      backendKeys: { loud: true },
      frontendKeys: { volume: 11 },
    });
    expect(device).toEqual({
      backendDomid: 2,
      address: { type: 'vshout', domid: 5, devid: 3 },
      frontendType: 'vshout',
    });
    const back = '/local/domain/2/backend/vshout/5/3';
    const front = '/local/domain/5/device/vshout/3';
    expect(await store.read(`${back}/loud`)).toBe('1');
    expect(await store.read(`${back}/frontend`)).toBe(front);
    expect(await store.read(`${front}/volume`)).toBe('11');
    expect(await store.read(`${front}/backend`)).toBe(back);
    expect(await store.getPermissions(front)).toEqual([
      { domid: 5, access: 'n' },
      { domid: 2, access: 'r' },
    ]);
  });

  it('takes the lowest number that is free', async () => {
    await attachDevice(store, 5, { type: 'vshout', devid: 1 });
    const first = await attachDevice(store, 5, { type: 'vshout' });
    const second = await attachDevice(store, 5, { type: 'vshout' });
    expect([first.address.devid, second.address.devid]).toEqual([0, 2]);
  });

  it('gives each of many that are attached at once a number of its own', async () => {
    const attached = await Promise.all(Array.from({ length: 8 }, () => attachDevice(store, 5, { type: 'vshout' })));
    const numbers = attached.map(({ address }) => address.devid);
    expect(numbers.sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  it('refuses a number that is in use, and leaves that device as it is', async () => {
    await attachDevice(store, 5, { type: 'vshout', devid: 0, backendKeys: { loud: true } });
    const again = attachDevice(store, 5, { type: 'vshout', devid: 0 });
    await expect(again).rejects.toMatchObject({ code: 'EEXIST', path: '/local/domain/5/device/vshout/0' });
    expect(await store.read('/local/domain/0/backend/vshout/5/0/loud')).toBe('1');
  });

  it('tells libxl of the device when asked to', async () => {
    await attachDevice(store, 5, { type: 'vshout', devid: 0 });
    expect(await store.exists(libxlPath({ domid: 5, devid: 0 }, 'vshout'))).toBe(false);
    await attachDevice(store, 5, { type: 'vshout', devid: 1, libxl: true });
    expect(await store.read(`${libxlPath({ domid: 5, devid: 1 }, 'vshout')}/frontend`)).toContain('vshout/1');
  });
});

describe('listDevices', () => {
  it('lists all of a domain, or one class, by number', async () => {
    for (const devid of [10, 2]) await attachDevice(store, 5, { type: 'qdisk', frontendType: 'vbd', devid });
    await attachDevice(store, 5, { type: 'vshout' });
    await attachDevice(store, 6, { type: 'vshout' });
    const all = await listDevices(store, 5);
    expect(all).toHaveLength(3);
    const disks = await listDevices(store, 5, { frontendType: 'vbd' });
    expect(disks.map(({ address }) => address)).toEqual([
      { type: 'qdisk', domid: 5, devid: 2 },
      { type: 'qdisk', domid: 5, devid: 10 },
    ]);
    expect(disks[0]).toMatchObject({ frontendType: 'vbd', frontendState: XenbusState.initialising });
  });

  it('lists nothing for a domain that is not there', async () => {
    expect(await listDevices(store, 77)).toEqual([]);
    expect(await listDevices(store, 77, { frontendType: 'vbd' })).toEqual([]);
  });

  it('tells a backend that is gone by its state, and what it lists can be deleted', async () => {
    await attachDevice(store, 5, { type: 'vshout' });
    await store.remove('/local/domain/0/backend/vshout/5/0');
    const [device] = await listDevices(store, 5);
    expect(device.backendState).toBe(XenbusState.unknown);
    await deleteDevice(store, device).catch(() => {});
    expect(await listDevices(store, 5)).toEqual([]);
  });

  it.each([
    ['no backend', undefined],
    ['the backend of another guest', '/local/domain/0/backend/vshout/6/0'],
    ['something below a backend', '/local/domain/0/backend/vshout/5/0/x'],
    ['nonsense', 'x'],
  ])('leaves a frontend out that names %s', async (_what, backend) => {
    await attachDevice(store, 5, { type: 'vshout' });
    if (backend === undefined) await store.remove('/local/domain/5/device/vshout/0/backend');
    else await store.write('/local/domain/5/device/vshout/0/backend', backend);
    expect(await listDevices(store, 5)).toEqual([]);
  });
});
