import { once } from 'node:events';
import type { Worker } from 'node:worker_threads';
import { memoryImage } from '@xenpv/blockdev';
import { EmulatedHost } from '@xenpv/emulator';
import type { XenProvider } from '@xenpv/xen-sys';
import { XenstoreClient } from '@xenpv/xenstore';
import { describe, expect, it, vi } from 'vitest';
import { XenBlockBackend } from './backend.js';
import type { ImageOpener } from './disk/disk.js';
import { TestHost } from './testing/host.js';

const MIB = 1 << 20;

/** The provider with a count of the handles that are open in this thread. */
function counting(provider: XenProvider): { provider: XenProvider; open: Set<string> } {
  const open = new Set<string>();
  let opened = 0;
  const counted = <T extends { close(): void }>(kind: string, make: () => T) => {
    const name = `${kind} ${opened++}`;
    const handle = make();
    open.add(name);
    const close = handle.close.bind(handle);
    handle.close = () => {
      open.delete(name);
      close();
    };
    return handle;
  };
  const wrapped: XenProvider = {
    name: provider.name,
    features: provider.features,
    openEventChannels: () => counted('event channels', () => provider.openEventChannels()),
    openGrantTable: () => counted('grant table', () => provider.openGrantTable()),
    openGrantAllocator: () => provider.openGrantAllocator(),
    openForeignMemory: () => provider.openForeignMemory(),
    connectXenstore: (options) => provider.connectXenstore(options),
    share: () => provider.share(),
  };
  return { provider: wrapped, open };
}

describe('a start that fails', () => {
  it.each([
    ['the own domain cannot be told', { types: ['qdisk'], ownDomid: undefined }, 'which domain this is'],
    ['a type cannot be watched', { types: ['qdisk', 'no type\0'], ownDomid: 0 }, 'xenstore watch'],
  ])('because %s leaves no handle and no thread', async (_title, options, message) => {
    await using xen = await EmulatedHost.create();
    await using store = XenstoreClient.open(xen.xenstored.connect(0));
    await store.remove('domid');
    const { provider, open } = counting(xen.provider(0));
    const workers: Worker[] = [];
    const note = (worker: Worker) => workers.push(worker);
    process.on('worker', note);
    try {
      await expect(XenBlockBackend.start({ provider, store, threads: 2, ...options })).rejects.toThrow(message);
    } finally {
      process.off('worker', note);
    }
    expect(workers).toHaveLength(2);
    await Promise.all(workers.map((worker) => (worker.threadId === -1 ? undefined : once(worker, 'exit'))));
    expect([...open]).toEqual([]);
  });
});

it('a start without a grant table closes its event channels', async () => {
  await using xen = await EmulatedHost.create();
  await using store = XenstoreClient.open(xen.xenstored.connect(0));
  const { provider, open } = counting(xen.provider(0));
  provider.openGrantTable = () => {
    throw new Error('no grant table');
  };
  await expect(XenBlockBackend.start({ provider, store })).rejects.toThrow('no grant table');
  expect([...open]).toEqual([]);
});

describe('an image that does not open', () => {
  const untilAborted: ImageOpener = (_config, { signal }) =>
    new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));

  it('does not hold up the end, and the disk is left to the next process', async () => {
    await using host = await TestHost.start({ openImage: untilAborted });
    const guest = await host.guest();
    const path = await guest.attach();
    await vi.waitFor(() => expect([...host.backend.devices]).toHaveLength(1));
    await host.backend.close();
    expect(await host.store.read(`${path}/state`)).toBe('1');
    await host.startBackend({ openImage: async () => memoryImage({ size: MIB }) });
    await using front = await guest.reconnect();
    expect(front.size).toBe(MIB);
  });

  it('does not hold up a detach, and the same disk is attached again', async () => {
    let isAway = true;
    const openImage: ImageOpener = async (config, call) =>
      isAway ? untilAborted(config, call) : memoryImage({ size: MIB });
    await using host = await TestHost.start({ openImage });
    const guest = await host.guest();
    await guest.attach();
    await vi.waitFor(() => expect([...host.backend.devices]).toHaveLength(1));
    await guest.detach();
    await vi.waitFor(() => expect([...host.backend.devices]).toEqual([]));
    isAway = false;
    await using front = await guest.connect();
    expect(front.size).toBe(MIB);
  });

  it('and ignores that it is not wanted is left behind, and closed when it opens after all', async () => {
    const image = memoryImage({ size: MIB });
    const close = vi.spyOn(image, 'close');
    let opened = (_image: typeof image) => {};
    const openImage = () =>
      new Promise<typeof image>((resolve) => {
        opened = resolve;
      });
    await using host = await TestHost.start({ openImage, abortTimeoutMs: 20 });
    const guest = await host.guest();
    await guest.attach();
    await vi.waitFor(() => expect([...host.backend.devices]).toHaveLength(1));
    await host.backend.close();
    opened(image);
    await vi.waitFor(() => expect(close).toHaveBeenCalledTimes(1));
  });
});

describe('the medium of a drive', () => {
  const cdrom = { deviceType: 'cdrom', readOnly: true } as const;

  it('is changed though only its format changed', async () => {
    const opened: string[] = [];
    await using host = await TestHost.start({
      openImage: async ({ format, target }) => {
        opened.push(`${format}:${target}`);
        return memoryImage({ size: format === 'raw' ? MIB : 2 * MIB, readOnly: true });
      },
    });
    const guest = await host.guest();
    const path = await guest.attach({ ...cdrom, target: '/cd' });
    await using _front = await guest.reconnect();
    await host.store.write(`${path}/params`, 'qcow2:/cd');
    await vi.waitFor(async () => expect(await host.store.read(`${path}/sectors`)).toBe(String((2 * MIB) / 512)));
    expect(opened).toEqual(['raw:/cd', 'qcow2:/cd']);
  });

  it('is changed though the change came in a burst of other keys', async () => {
    await using host = await TestHost.start();
    host.images.set('large', () => memoryImage({ size: 2 * MIB, readOnly: true }));
    const guest = await host.guest();
    const path = await guest.attach({ ...cdrom, target: 'small' });
    await using _front = await guest.reconnect();
    await host.store.transaction(async (tx) => {
      for (let i = 0; i < 400; i++) await tx.write(`${path}/noise-${i}`, i);
      await tx.write(`${path}/params`, 'aio:large');
    });
    await vi.waitFor(async () => expect(await host.store.read(`${path}/sectors`)).toBe(String((2 * MIB) / 512)));
  });

  it('is changed though it was changed while nobody served', async () => {
    await using host = await TestHost.start();
    host.images.set('large', () => memoryImage({ size: 2 * MIB, readOnly: true }));
    const guest = await host.guest();
    const path = await guest.attach({ ...cdrom, target: 'small' });
    await using _front = await guest.reconnect();
    await host.backend.close();
    await host.store.write(`${path}/params`, 'aio:large');
    await host.startBackend();
    await vi.waitFor(async () => expect(await host.store.read(`${path}/sectors`)).toBe(String((2 * MIB) / 512)));
  });
});
