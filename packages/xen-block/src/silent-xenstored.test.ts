import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { memoryImage } from '@xenpv/blockdev';
import { EmulatedHost } from '@xenpv/emulator';
import type { XenstoreTransport } from '@xenpv/xen-sys';
import { XenstoreClient } from '@xenpv/xenstore';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { type BlockDevice, firstFreeVdev, readDiskConfig, readNegotiated, XenBlockBackend } from './index.js';
import { GatedImage } from './testing/gated-image.js';

let xen: EmulatedHost;
let journalDirectory: string;
beforeEach(async () => {
  xen = await EmulatedHost.create();
  journalDirectory = await mkdtemp(join(tmpdir(), 'silent-'));
});
afterEach(async () => {
  await xen.close();
  await rm(journalDirectory, { recursive: true });
});

/** Lets requests through until `isSilent` says no more; the others are never answered, which `silent` is told. */
function silenced(inner: XenstoreTransport, isSilent: () => boolean, silent: () => void = () => {}): XenstoreTransport {
  return new Proxy(inner, {
    get(target, name) {
      if (name === 'send') return (bytes: Uint8Array) => (isSilent() ? silent() : target.send(bytes));
      const value = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

const enough = new Error('enough');
const PATIENCE_MS = 5;

/** Whether a backend starts whose xenstored falls silent after so many requests; it has to end when the signal says so. */
async function starts(requests: number, threads: number): Promise<boolean> {
  const abort = new AbortController();
  const { signal } = abort;
  const giveUp = () => setTimeout(() => abort.abort(enough), PATIENCE_MS);
  let sent = 0;
  const store = XenstoreClient.open(silenced(xen.xenstored.connect(0), () => sent++ >= requests, giveUp));
  // Of a domain that is there and a disk that is not: xenstored is asked.
  await writeFile(join(journalDirectory, 'qdisk-0-51712-0'), '');
  const options = { provider: xen.provider(), store, types: ['qdisk', 'vbd'], journalDirectory, signal, threads };
  try {
    const backend = await XenBlockBackend.start({ ...options, stopTimeoutMs: 1 });
    await backend.close();
    return true;
  } catch (error) {
    expect(error).toBe(enough);
    return false;
  } finally {
    await store.close({ timeoutMs: 0 });
  }
}

it('wherever xenstored falls silent, the signal ends XenBlockBackend.start', async () => {
  let requests = 0;
  while (!(await starts(requests, 0))) requests++;
  expect(requests).toBeGreaterThan(8);
});

it('with threads, too', async () => {
  expect(await starts(4, 1)).toBe(false);
});

it('a start with a signal that is aborted begins nothing; afterwards the signal means nothing', async () => {
  const store = XenstoreClient.open(xen.xenstored.connect(0));
  const provider = xen.provider();
  await expect(XenBlockBackend.start({ provider, store, signal: AbortSignal.abort(enough) })).rejects.toBe(enough);
  const abort = new AbortController();
  const backend = await XenBlockBackend.start({ provider, store, signal: abort.signal });
  abort.abort(enough);
  const guest = await xen.createDomain({ name: 'guest' });
  await xen.toolstack.attachDisk(guest.domid, { vdev: 'xvda', target: '/nothing' });
  await vi.waitFor(() => expect([...backend.devices]).toHaveLength(1));
  await backend.close();
  await store.close();
});

const address = { type: 'qdisk', domid: 1, devid: 51712 };
it.each<[string, (store: XenstoreClient, signal: AbortSignal) => Promise<unknown>]>([
  ['firstFreeVdev', (store, signal) => firstFreeVdev(store, 1, { signal })],
  ['readDiskConfig', (store, signal) => readDiskConfig(store, 'backend/qdisk/1/51712', address, { signal })],
  [
    'readNegotiated',
    (store, signal) => readNegotiated(store, 'device/vbd/51712', { maxRingPageOrder: 0, maxQueues: 1 }, { signal }),
  ],
])('with a silent xenstored, an aborted signal ends %s', async (_, call) => {
  const store = XenstoreClient.open(silenced(xen.xenstored.connect(0), () => true));
  const abort = new AbortController();
  const called = call(store, abort.signal);
  abort.abort(enough);
  await expect(called).rejects.toBe(enough);
  await expect(call(store, abort.signal)).rejects.toBe(enough);
  await store.close({ timeoutMs: 0 });
});

/** A disk of a backend, and what lets its xenstored fall silent until `go`. */
async function servedDisk(image = new GatedImage(memoryImage({ size: 4096 }))) {
  let held: (() => void)[] | undefined;
  const transport = xen.xenstored.connect(0);
  const send = transport.send.bind(transport);
  transport.send = (bytes) => (held ? void held.push(() => send(bytes)) : send(bytes));
  const store = XenstoreClient.open(transport);
  const backend = await XenBlockBackend.start({ provider: xen.provider(), store, openImage: async () => image });
  const guest = await xen.createDomain({ name: 'guest' });
  await xen.toolstack.attachDisk(guest.domid, { vdev: 'xvda', target: 'x' });
  await vi.waitFor(() => expect([...backend.devices][0]?.geometry).toBeDefined());
  await backend.settled();
  const hold = () => {
    held = [];
  };
  const go = () => {
    for (const each of held?.splice(0) ?? []) each();
    held = undefined;
  };
  const dispose = async () => {
    go();
    await backend.close();
    await store.close();
  };
  return { device: [...backend.devices][0], backend, hold, go, [Symbol.asyncDispose]: dispose };
}

type Change = (device: BlockDevice, signal?: AbortSignal) => Promise<unknown>;
const limits = { iops: 5 };
it.each<[string, Change, (device: BlockDevice) => unknown, unknown]>([
  ['setLimits', (device, signal) => device.setLimits('disk', limits, { signal }), ({ limits }) => limits.disk, limits],
  ['setPaused', (device, signal) => device.setPaused(true, { signal }), ({ paused }) => paused, expect.any(Date)],
])('the signal ends the wait of %s alone: the change is made all the same', async (_, change, seen, wanted) => {
  await using disk = await servedDisk();
  const { device } = disk;
  const before = seen(device);
  const abort = new AbortController();
  disk.hold();
  const changing = change(device, abort.signal);
  abort.abort(enough);
  await expect(changing).rejects.toBe(enough);
  expect(seen(device)).toEqual(before);
  disk.go();
  await vi.waitFor(() => expect(seen(device)).toEqual(wanted));
});

it.each<[string, Change]>([
  ['setLimits', (device, signal) => device.setLimits('disk', limits, { signal })],
  ['setPaused', (device, signal) => device.setPaused(true, { signal })],
  ['resume', (device, signal) => device.resume({ signal })],
  ['refresh', (device, signal) => device.refresh({ signal })],
  ['trace', (device, signal) => device.trace({ signal })],
])('with a signal that is aborted already, %s begins nothing', async (_, change) => {
  await using disk = await servedDisk();
  const { device } = disk;
  const before = [device.limits, device.paused];
  await expect(change(device, AbortSignal.abort(enough))).rejects.toBe(enough);
  expect([device.limits, device.paused]).toEqual(before);
});

it('the signal ends a refresh of storage that hangs; the next one finds what it would have', async () => {
  const image = new GatedImage(memoryImage({ size: 4096 }));
  await using disk = await servedDisk(image);
  const { device, backend } = disk;
  const signals: (AbortSignal | undefined)[] = [];
  image.refresh = (options) => {
    signals.push(options?.signal);
    return new Promise((_, reject) => options?.signal?.addEventListener('abort', () => reject(options.signal?.reason)));
  };
  const abort = new AbortController();
  const refreshing = device.refresh({ signal: abort.signal });
  // Waits for its turn, and is not begun any more when that comes.
  const next = device.refresh({ signal: abort.signal });
  await vi.waitFor(() => expect(signals).toEqual([abort.signal]));
  abort.abort(enough);
  await expect(refreshing).rejects.toBe(enough);
  await expect(next).rejects.toBe(enough);
  image.refresh = async () => 4096;
  await backend.refresh();
  expect(signals).toHaveLength(1);

  let answer = (_size: number) => {};
  image.refresh = () => new Promise((resolve) => (answer = resolve));
  const all = new AbortController();
  const refreshingAll = backend.refresh({ signal: all.signal });
  all.abort(enough);
  await expect(refreshingAll).rejects.toBe(enough);
  answer(4096);
});
