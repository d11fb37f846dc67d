import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { rawQueue } from '@xenpv/blkfront/testing';
import { BlkifOp, RequestWriter } from '@xenpv/blkif';
import { memoryImage } from '@xenpv/blockdev';
import { XenstoreClient } from '@xenpv/xenstore';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import type { DeviceAbandonedEvent } from '../diagnostics.js';
import { FailingStorage } from '../testing/failing-image.js';
import { GatedImage } from '../testing/gated-image.js';
import { TestHost } from '../testing/host.js';

vi.setConfig({ testTimeout: 30_000 });

const PAGE = 4096;
const SOON = { timeout: 10_000 };
const SIZE = 1024 * 1024;

function listen(): DeviceAbandonedEvent[] {
  const told: DeviceAbandonedEvent[] = [];
  const listener = (event: unknown) => void told.push(event as DeviceAbandonedEvent);
  subscribe('xen-block:device:abandoned', listener);
  onTestFinished(() => void unsubscribe('xen-block:device:abandoned', listener));
  return told;
}

describe('storage that hangs', () => {
  async function setting(options: Parameters<typeof TestHost.start>[0] = {}) {
    const told = listen();
    const host = await TestHost.start({ letGoMs: 50, ...options });
    const memory = memoryImage({ size: SIZE });
    const gate = new GatedImage(memory);
    host.images.set('disk', () => gate);
    const guest = await host.guest();
    onTestFinished(async () => {
      gate.open = true;
      gate.release();
      await host[Symbol.asyncDispose]();
    });
    return { told, host, gate, guest, bytes: new Uint8Array(memory.data) };
  }

  it.each(['copy', 'map', 'persistent'] as const)(
    'G3: does not keep a domain that is gone, with data path %s: its ring is unmapped and its port closed',
    async (dataPath) => {
      const { told, host, gate, guest } = await setting({ dataPath });
      const ports = () => host.xen.usage(0).ports;
      const before = ports();
      const [domain] = host.xen.domains;
      const disk = await guest.connect({ ringPageOrder: 2, persistent: dataPath === 'persistent' });
      const requests = [disk.read(0, PAGE), disk.write(PAGE, new Uint8Array(PAGE)), disk.flush()].map((request) =>
        request.catch(() => 'gone'),
      );
      await vi.waitFor(() => expect(gate.held).toHaveLength(3), SOON);
      await guest.destroy();
      await vi.waitFor(() => expect(told).toHaveLength(1), SOON);
      expect(told[0].inFlight).toBe(3);
      await vi.waitFor(() => expect([...host.backend.devices]).toEqual([]), SOON);
      expect(ports()).toBe(before);
      // The storage works in the pages of two of the requests.
      expect(domain.usage().mapped).toBe(dataPath === 'copy' ? 0 : 2);
      gate.open = true;
      gate.release();
      await vi.waitFor(() => expect(domain.usage().mapped).toBe(0), SOON);
      expect(await Promise.all(requests)).toEqual(['gone', 'gone', 'gone']);
    },
  );

  it('is asked for nothing more that waited behind what hangs, when the domain is gone and the image closed', async () => {
    const { told, host, gate, guest } = await setting();
    const failed: unknown[] = [];
    const listener = (event: unknown) => void failed.push(event);
    subscribe('xen-block:plane:failed', listener);
    onTestFinished(() => void unsubscribe('xen-block:plane:failed', listener));
    const disk = await guest.connect();
    disk.write(0, new Uint8Array(PAGE)).catch(() => {});
    await vi.waitFor(() => expect(gate.held).toHaveLength(1), SOON);
    const { abi } = rawQueue(disk);
    const words = new Int32Array(abi.slotWords);
    new RequestWriter(words, abi).readWrite(BlkifOp.writeBarrier, 0, 7, 0, 0);
    rawQueue(disk)
      .request(words)
      .catch(() => {});
    await vi.waitFor(() => expect([...host.backend.devices][0].statistics().inFlight).toBe(2), SOON);
    await guest.destroy();
    await vi.waitFor(() => expect(told).toHaveLength(1), SOON);
    await vi.waitFor(() => expect([...host.backend.devices]).toEqual([]), SOON);
    gate.open = true;
    gate.release();
    // When the next guest has been served, the ring that was let go of has had its turn.
    const other = await (await host.guest()).connect({}, { target: 'other' });
    await other.write(0, new Uint8Array(PAGE));
    expect(gate.log).toHaveLength(1);
    expect(failed).toEqual([]);
  });

  it('does not keep the next guest from being served, nor does its answer that comes later get to anybody', async () => {
    const { told, host, gate, guest, bytes } = await setting();
    bytes.fill(9);
    const disk = await guest.connect();
    disk.read(0, PAGE).catch(() => {});
    await vi.waitFor(() => expect(gate.held).toHaveLength(1), SOON);
    await guest.destroy();
    await vi.waitFor(() => expect(told).toHaveLength(1), SOON);
    const next = await host.guest();
    const other = await next.connect({}, { target: 'other' });
    await other.write(0, new Uint8Array(PAGE * 4).fill(3));
    gate.open = true;
    gate.release();
    for (let i = 0; i < 20; i++) {
      expect((await other.read(0, PAGE * 4)).every((byte) => byte === 3)).toBe(true);
    }
    await other.close();
  });

  it('serves a kernel that is booted anew when it has ended what the one before asked', async () => {
    const { told, host, gate, guest, bytes } = await setting();
    const [domain] = host.xen.domains;
    const ownStore = XenstoreClient.open(await domain.provider.connectXenstore());
    const disk = await guest.connect({ store: ownStore });
    disk.write(0, new Uint8Array(PAGE).fill(1)).catch(() => {});
    await vi.waitFor(() => expect(gate.held).toHaveLength(1), SOON);
    await ownStore.close();
    await disk.closed;
    let connected = false;
    const connecting = guest.reconnect().then((front) => {
      connected = true;
      return front;
    });
    await vi.waitFor(() => expect(told).toHaveLength(1), SOON);
    // Another disk has a whole handshake in the meantime.
    const other = await guest.connect({}, { vdev: 'xvdb', target: 'other' });
    expect(connected).toBe(false);
    gate.open = true;
    gate.release();
    const again = await connecting;
    await again.write(0, new Uint8Array(PAGE).fill(2));
    expect(bytes[0]).toBe(2);
    await Promise.all([again.close(), other.close()]);
  });

  it('does not hold up the end of the backend when the domain is gone', async () => {
    const { told, host, gate, guest } = await setting({ stopTimeoutMs: 60_000 });
    const disk = await guest.connect();
    disk.read(0, PAGE).catch(() => {});
    await vi.waitFor(() => expect(gate.held).toHaveLength(1), SOON);
    await guest.destroy();
    await vi.waitFor(() => expect(told).toHaveLength(1), SOON);
    await host.backend.close();
  });

  it('does not keep a domain whose drive was to have another medium', async () => {
    const { told, host, gate, guest } = await setting({ abortTimeoutMs: 50 });
    const path = await guest.attach({ deviceType: 'cdrom', readOnly: true });
    const disk = await guest.reconnect();
    disk.read(0, PAGE).catch(() => {});
    await vi.waitFor(() => expect(gate.held).toHaveLength(1), SOON);
    await host.store.write(`${path}/params`, 'aio:other');
    await guest.destroy();
    await vi.waitFor(() => expect(told).toHaveLength(1), SOON);
    await vi.waitFor(() => expect([...host.backend.devices]).toEqual([]), SOON);
  });

  it('and ends in time fails nothing and is not told', async () => {
    const { told, gate, guest } = await setting({ letGoMs: 10_000 });
    const disk = await guest.connect();
    const write = disk.write(0, new Uint8Array(PAGE));
    await vi.waitFor(() => expect(gate.held).toHaveLength(1), SOON);
    const closing = disk.close();
    gate.open = true;
    gate.release();
    await write;
    await closing;
    expect(told).toEqual([]);
  });
});

it('a domain that is gone is let go of by rings on other threads too', async () => {
  const told = listen();
  await using host = await TestHost.start({ letGoMs: 50, threads: 1 });
  const storage = new FailingStorage();
  host.images.set('disk', () => storage.image());
  const guest = await host.guest();
  const [domain] = host.xen.domains;
  const before = host.xen.usage(0).ports;
  const disk = await guest.connect();
  storage.delay(1500);
  disk.read(0, PAGE).catch(() => {});
  await vi.waitFor(() => expect(host.device.statistics().inFlight).toBe(1), SOON);
  await guest.destroy();
  await vi.waitFor(() => expect(told).toHaveLength(1), SOON);
  await vi.waitFor(() => expect([...host.backend.devices]).toEqual([]), SOON);
  expect(host.xen.usage(0).ports).toBe(before);
  expect(domain.usage().mapped).toBe(0);
});
