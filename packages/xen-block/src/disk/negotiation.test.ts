import type { EventChannels } from '@xenpv/xen-sys';
import type { XenstoreOperations } from '@xenpv/xenstore';
import { describe, expect, it } from 'vitest';
import type { XenBlockBackend } from '../backend.js';
import { bytes, same } from '../testing/bytes.js';
import { attachTestDisk } from '../testing/test-disk.js';
import type { NegotiatedRing } from './negotiation.js';

const code = (name: string) => expect.objectContaining({ code: name });

describe('negotiation', () => {
  it.each([
    [2, 0, 2],
    [4, 2, 4],
    [9, 4, 4],
  ])('%i queues of order %i', async (queues, ringPageOrder, negotiated) => {
    await using disk = await attachTestDisk({ backend: { limits: { maxQueues: 4 } } });
    await using front = await disk.connect({ queues, ringPageOrder });
    expect(front.queues).toBe(negotiated);
    expect(await disk.store.read(`${disk.frontendPath}/multi-queue-num-queues`)).toBe(String(negotiated));
    expect(await disk.store.exists(`${disk.frontendPath}/event-channel`)).toBe(false);
    const writes = Array.from({ length: 100 }, (_, i) => front.write(i * 4096, bytes(4096, i)));
    await Promise.all(writes);
    const data = await front.read(0, 100 * 4096);
    expect(writes.every((_, i) => same(data.subarray(i * 4096, (i + 1) * 4096), bytes(4096, i)))).toBe(true);
  });

  it('publishes what Linux publishes', async () => {
    await using disk = await attachTestDisk();
    await using front = await disk.connect({ ringPageOrder: 0 });
    const before = ['backend', 'backend-id', 'state', 'virtual-device', 'device-type', 'trusted'];
    const keys = (await disk.store.directory(disk.frontendPath)).filter((key) => !before.includes(key));
    expect(keys.sort()).toEqual(['event-channel', 'feature-persistent', 'protocol', 'ring-ref']);
    expect(await disk.store.read(`${disk.frontendPath}/protocol`)).toBe('x86_64-abi');
    expect(front.abi.name).toBe('x86_64');
  });

  it('without a protocol key is x86_32', async () => {
    await using disk = await attachTestDisk();
    await using front = await disk.connect({ abi: 'x86_32', testing: { announceProtocol: false } });
    await front.write(0, bytes(8192));
    expect(same(await front.read(0, 8192), bytes(8192))).toBe(true);
  });

  it('takes the older spelling of the ring size', async () => {
    await using disk = await attachTestDisk();
    await using front = await disk.connect({ ringPageOrder: 2, legacyRingPages: true });
    expect(await disk.store.read(`${disk.frontendPath}/num-ring-pages`)).toBe('4');
    expect(await disk.store.exists(`${disk.frontendPath}/ring-page-order`)).toBe(false);
    await Promise.all(Array.from({ length: 128 }, (_, i) => front.read(i * 512, 512)));
  });

  it('may jump to Initialised without waiting for InitWait', async () => {
    await using disk = await attachTestDisk();
    await using front = await disk.connect({ testing: { waitForInitWait: false }, queues: 4 });
    expect(front).toMatchObject({ ringPageOrder: 0, queues: 1 });
    await front.read(0, 4096);
  });

  it('may be at Initialised before the backend even looks', async () => {
    await using disk = await attachTestDisk({ backend: { types: ['vbd'] } });
    const connecting = disk.connect({ testing: { waitForInitWait: false } });
    const published = async (ops: XenstoreOperations) => (await ops.tryRead(`${disk.frontendPath}/state`)) === '3';
    await disk.store.waitFor(async (ops) => ((await published(ops)) ? true : undefined));
    await disk.restartBackend({ types: ['qdisk'] });
    await using front = await connecting;
    await front.read(0, 4096);
  });

  it('fails when the backend has nothing to serve', async () => {
    const openImage = () => Promise.reject(new Error('no such image'));
    await using disk = await attachTestDisk({ backend: { openImage } });
    await expect(disk.connect()).rejects.toThrow(code('ERR_HANDSHAKE'));
    expect(disk.guest.usage()).toMatchObject({ ports: 0 });
  });

  it('fails for a disk that is not there, or is not said', async () => {
    await using disk = await attachTestDisk();
    await expect(disk.connect({ vdev: 'xvdb' })).rejects.toThrow(code('ERR_HANDSHAKE'));
    await expect(disk.connect({ vdev: 'nonsense' })).rejects.toThrow(code('ERR_VDEV'));
  });

  it('ends when its signal is aborted', async () => {
    await using disk = await attachTestDisk({ backend: { types: ['vbd'] } });
    const connecting = disk.connect({ signal: AbortSignal.timeout(50) });
    await expect(connecting).rejects.toThrow(expect.objectContaining({ name: 'TimeoutError' }));
  });
});

/** Never run: the compiler says what holds. */
export function isCompiled(backend: XenBlockBackend, ring: NegotiatedRing, events: EventChannels): void {
  events.bindInterdomain(backend.ownDomid, ring.eventChannel);
  // @ts-expect-error domain and port are swapped
  events.bindInterdomain(ring.eventChannel, backend.ownDomid);
}
