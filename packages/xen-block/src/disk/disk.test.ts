import { randomBytes } from 'node:crypto';
import type { Blkfront } from '@xenpv/blkfront';
import { memoryImage } from '@xenpv/blockdev';
import type { XenstoreValue } from '@xenpv/xenstore';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { GatedImage } from '../testing/gated-image.js';
import { type TestGuest, TestHost } from '../testing/host.js';

const MIB = 1024 * 1024;
let host: TestHost;
let guest: TestGuest;

beforeEach(async () => {
  host = await TestHost.start({ limits: { maxQueues: 4 } });
  guest = await host.guest();
});

afterEach(() => host[Symbol.asyncDispose]());

const backPath = () => `/local/domain/0/backend/qdisk/${guest.domid}/51712`;
const frontPath = () => `/local/domain/${guest.domid}/device/vbd/51712`;
const back = (key: string) => host.store.tryRead(`${backPath()}/${key}`);
const backendIs = (state: number) =>
  host.store.waitFor(async (ops) => ((await ops.tryRead(`${backPath()}/state`)) === String(state) ? true : undefined));
const errorNode = () => host.store.tryRead(`/local/domain/0/error/backend/qdisk/${guest.domid}/51712/error`);

async function works(disk: Blkfront): Promise<void> {
  const data = randomBytes(64 * 1024);
  await disk.write(8192, data);
  await disk.flush();
  expect(Buffer.compare(await disk.read(8192, data.length), data)).toBe(0);
}

describe('published keys', () => {
  it('transport keys come with InitWait, device keys with Connected', async () => {
    await guest.attach();
    await backendIs(2);
    expect(await back('max-ring-page-order')).toBe('4');
    expect(await back('max-ring-pages')).toBe('16');
    expect(await back('multi-queue-max-queues')).toBe('4');
    expect(await back('feature-max-indirect-segments')).toBe('256');
    expect(await back('hotplug-status')).toBe('connected');
    for (const key of ['sectors', 'feature-flush-cache', 'info']) expect(await back(key)).toBeUndefined();
    const disk = await guest.reconnect();
    const expected: Record<string, string> = {
      sectors: '2048',
      'sector-size': '512',
      info: '0',
      'feature-flush-cache': '1',
      'feature-barrier': '1',
      'feature-discard': '1',
      'discard-alignment': '0',
      'discard-secure': '1',
      'feature-persistent': '0',
    };
    for (const [key, value] of Object.entries(expected)) expect([key, await back(key)]).toEqual([key, value]);
    expect(Number(await back('discard-granularity'))).toBeGreaterThan(0);
    expect(Number(await back('physical-sector-size'))).toBeGreaterThanOrEqual(512);
    await disk.close();
  });

  const largeSectors = { sectorSize: 4096, size: MIB } as const;

  it('sectors are 512 bytes whatever the sector size', async () => {
    await host.backend.close();
    await host.startBackend({ sectorSize: 'image' });
    host.images.set('4k', () => memoryImage(largeSectors));
    const disk = await guest.connect({}, { target: '4k' });
    expect([await back('sectors'), await back('sector-size')]).toEqual(['2048', '4096']);
    await disk.close();
  });

  it('storage with 4096-byte sectors serves guests with 512-byte ones', async () => {
    host.images.set('4k', () => memoryImage(largeSectors));
    const disk = await guest.connect({}, { target: '4k' });
    const keys = ['sectors', 'sector-size', 'physical-sector-size'];
    expect(await Promise.all(keys.map(back))).toEqual(['2048', '512', '4096']);
    const data = randomBytes(MIB);
    await disk.write(0, data);
    for (let i = 0; i < 50; i++) {
      const at = 512 * ((i * 37) % 2000);
      const part = randomBytes(512 * (1 + (i % 20)));
      await disk.write(at, part);
      part.copy(data, at);
    }
    expect(Buffer.compare(await disk.read(0, MIB), data)).toBe(0);
    await disk.close();
  });

  it.each([
    ['a read-only disk', { readOnly: true } as const, '4'],
    ['a cdrom', { readOnly: true, deviceType: 'cdrom' } as const, '7'],
    ['a writable disk', {}, '0'],
  ])('info of %s', async (_name, disk, info) => {
    const front = await guest.connect({}, disk);
    expect(await back('info')).toBe(info);
    expect(front.info).toBe(Number(info));
    await front.close();
  });

  it('a disk whose mode is missing is not writable', async () => {
    await host.backend.close();
    await guest.attach();
    await host.store.remove(`${backPath()}/mode`);
    await host.startBackend();
    const disk = await guest.reconnect();
    expect(disk.readOnly).toBe(true);
    await expect(disk.write(0, new Uint8Array(512))).rejects.toThrow();
    await disk.close();
  });

  it('no discard when the toolstack says so', async () => {
    await host.backend.close();
    await guest.attach();
    await host.store.write(`${backPath()}/discard-enable`, '0');
    await host.startBackend();
    const disk = await guest.reconnect();
    expect(await back('feature-discard')).toBe('0');
    await disk.close();
  });
});

describe('every way to connect', () => {
  for (const abi of ['x86_32', 'x86_64', 'arm'] as const) {
    for (const ringPageOrder of [0, 1, 2, 3, 4]) {
      for (const queues of [1, 4]) {
        it(`${abi}, order ${ringPageOrder}, ${queues} queues`, async () => {
          const disk = await guest.connect({ abi, ringPageOrder, queues });
          expect(disk.queues).toBe(queues);
          expect(host.device.negotiated).toMatchObject({ abi: { name: abi } });
          expect(host.device.negotiated?.rings).toHaveLength(queues);
          await works(disk);
          await disk.close();
        });
      }
    }
  }

  it('QEMU a1c1082908: without a protocol key an x86 backend takes x86_32', async () => {
    const disk = await guest.connect({ abi: 'x86_32', testing: { announceProtocol: false } });
    await works(disk);
    await disk.close();
  });

  it('again and again, with another layout and ring each time', async () => {
    await guest.attach();
    for (const [abi, ringPageOrder] of [
      ['x86_32', 0],
      ['x86_64', 4],
      ['arm', 2],
      ['x86_64', 0],
    ] as const) {
      const disk = await guest.reconnect({ abi, ringPageOrder });
      await works(disk);
      await disk.close();
      await backendIs(6);
    }
    await guest.detach();
    expect([...host.backend.devices]).toEqual([]);
  });
});

describe('a frontend that publishes nonsense', () => {
  /** Writes a frontend's keys by hand and Initialised. */
  async function publish(values: Record<string, XenstoreValue>): Promise<void> {
    await guest.attach();
    await backendIs(2);
    for (const [key, value] of Object.entries(values)) await guest.store.write(`${frontPath()}/${key}`, value);
    await guest.store.write(`${frontPath()}/state`, 3);
  }

  const good = { 'ring-ref': 8, 'event-channel': 1, protocol: 'x86_64-abi' };
  it.each<[string, Record<string, XenstoreValue>, RegExp]>([
    ['no keys at all', {}, /event-channel is missing|ring-ref is missing/],
    ['no ring-ref', { 'event-channel': 1 }, /ring-ref is missing/],
    ['no event-channel', { 'ring-ref': 8 }, /event-channel is missing/],
    ['a ring-ref that is not granted', { ...good, 'ring-ref': 4000 }, /ring 0/],
    ['an enormous ring-ref', { ...good, 'ring-ref': '99999999999' }, /ring-ref is "99999999999"/],
    ['a negative event-channel', { ...good, 'event-channel': '-1' }, /event-channel is "-1"/],
    ['an event channel that is not ours', { ...good, 'event-channel': 900 }, /ring 0/],
    ['an unknown protocol', { ...good, protocol: 'z80-abi' }, /protocol is "z80-abi"/],
    ['too large a ring', { ...good, 'ring-page-order': 5 }, /ring-page-order is 5; expected 0 to 4/],
    ['an odd number of ring pages', { ...good, 'num-ring-pages': 3 }, /num-ring-pages is 3/],
    ['a missing page of a ring', { ...good, 'ring-page-order': 1, 'ring-ref0': 8 }, /ring-ref1 is missing/],
    ['a number with text behind it', { ...good, 'ring-page-order': '1x' }, /ring-ref0 is missing/],
    ['no queues', { ...good, 'multi-queue-num-queues': 0 }, /multi-queue-num-queues is 0; expected 1 to 4/],
    ['too many queues', { ...good, 'multi-queue-num-queues': 5 }, /multi-queue-num-queues is 5/],
    ['queues without directories', { ...good, 'multi-queue-num-queues': 2 }, /queue-0.* is missing/],
  ])('%s: error node and Closing, and the next one works', async (_name, values, error) => {
    await publish(values);
    await backendIs(5);
    expect(await errorNode()).toMatch(error);
    await guest.store.write(`${frontPath()}/state`, 6);
    await backendIs(6);
    for (const key of Object.keys({ ...values, ...good })) await guest.store.remove(`${frontPath()}/${key}`);
    await guest.store.write(`${frontPath()}/state`, 1);
    await backendIs(2);
    const disk = await guest.reconnect();
    await works(disk);
    expect(await errorNode()).toBeUndefined();
    await disk.close();
  });
});

describe('images', () => {
  it('QEMU eb6ae7a682: that cannot be opened: error node, Closed, and forgotten with the directory', async () => {
    let fail = true;
    host.images.set('flaky', async () => {
      if (fail) throw Object.assign(new Error('no such image: /flaky'), { code: 'ENOENT' });
      return memoryImage({ size: MIB });
    });
    await guest.attach({ target: 'flaky' });
    await backendIs(6);
    expect(await errorNode()).toBe('ENOENT no such image: /flaky');
    await guest.detach();
    fail = false;
    const disk = await guest.connect({}, { target: 'flaky' });
    await works(disk);
    await disk.close();
  });

  it('that grow and shrink', async () => {
    let size = MIB;
    const image = memoryImage({ size: 4 * MIB });
    const resizable = new Proxy(image, {
      get: (target, key) => {
        if (key === 'size') return size;
        const value = Reflect.get(target, key);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    host.images.set('resizable', () => resizable);
    const sizes: number[] = [];
    const disk = await guest.connect({ onResize: (bytes) => sizes.push(bytes) }, { target: 'resizable' });
    await expect(disk.read(2 * MIB, 512)).rejects.toThrow();
    size = 4 * MIB;
    await host.backend.refresh();
    await vi.waitFor(() => expect(sizes).toEqual([4 * MIB]));
    expect(await disk.read(4 * MIB - 512, 512)).toHaveLength(512);
    size = 2 * MIB;
    await expect(host.device.refresh()).rejects.toMatchObject({ code: 'EINVAL', op: 'refresh' });
    expect(await back('sectors')).toBe(String((4 * MIB) / 512));
    await host.device.refresh({ mayShrink: true });
    await vi.waitFor(() => expect(disk.size).toBe(2 * MIB));
    expect(await back('sectors')).toBe(String((2 * MIB) / 512));
    expect(await back('state')).toBe('4');
    await disk.close();
  });

  it('that are being opened are opened once, whoever looks at them meanwhile', async () => {
    let opened = 0;
    let open = () => {};
    const opens = new Promise<void>((resolve) => {
      open = resolve;
    });
    host.images.set('slow', async () => {
      opened++;
      await opens;
      return memoryImage({ size: MIB });
    });
    const connecting = guest.connect({}, { target: 'slow' });
    await vi.waitFor(() => expect(opened).toBe(1));
    await host.backend.refresh();
    await host.device.refresh({ mayShrink: true });
    open();
    await (await connecting).close();
    expect(opened).toBe(1);
  });
});

describe('a cdrom drive', () => {
  const cdrom = { deviceType: 'cdrom', readOnly: true } as const;

  it('may be empty, gets a medium, another one, and none again', async () => {
    for (const [name, value] of [
      ['one', 1],
      ['two', 2],
    ] as const) {
      host.images.set(name, () => memoryImage({ data: new Uint8Array(MIB).fill(value), readOnly: true }));
    }
    const disk = await guest.connect({}, { ...cdrom, target: '' });
    expect(disk.size).toBe(0);
    for (const [target, value] of [
      ['one', 1],
      ['two', 2],
    ] as const) {
      await host.xen.toolstack.changeMedium(guest.domid, 'xvda', target);
      await vi.waitFor(async () => expect((await disk.read(0, 512))[0]).toBe(value));
    }
    await host.xen.toolstack.changeMedium(guest.domid, 'xvda', '');
    await vi.waitFor(() => expect(disk.size).toBe(0));
    expect(await back('sectors')).toBe('0');
    await disk.close();
  });

  it('is empty after a medium that cannot be opened', async () => {
    host.images.set('scratched', () => Promise.reject(new Error('unreadable')));
    const disk = await guest.connect({}, { ...cdrom, target: 'disk' });
    await host.xen.toolstack.changeMedium(guest.domid, 'xvda', 'scratched');
    await vi.waitFor(() => expect(disk.size).toBe(0));
    await disk.close();
  });

  it('a disk without an image is refused', async () => {
    await guest.attach({ target: '' });
    await backendIs(6);
    expect(await errorNode()).toMatch(/^ENOENT params names no image/);
  });
});

describe('what happens under load', () => {
  /** Reads all the time until something ends it. */
  function load(disk: Blkfront): Promise<unknown> {
    const loop = async () => {
      for (let i = 0; ; i++) await disk.read((i % 256) * 4096, 4096);
    };
    return Promise.allSettled(Array.from({ length: 16 }, loop));
  }

  const nothingLeft = async () => {
    await vi.waitFor(() => expect([...host.backend.devices]).toEqual([]));
    const usage = host.xen.domains.map((domain) => domain.usage());
    expect(usage).toEqual([]);
  };

  it('a domain is destroyed', async () => {
    const disk = await guest.connect({ ringPageOrder: 4, queues: 4 });
    const reading = load(disk);
    await vi.waitFor(() => expect(host.device.statistics().read.operations).toBeGreaterThan(100));
    await guest.destroy();
    await nothingLeft();
    await disk.close().catch(() => {});
    await reading;
  });

  it('the frontend directory is deleted', async () => {
    const disk = await guest.connect();
    const reading = load(disk);
    await vi.waitFor(() => expect(host.device.statistics().read.operations).toBeGreaterThan(100));
    await host.store.remove(frontPath());
    await backendIs(6);
    await disk.close().catch(() => {});
    await reading;
  });

  it('the toolstack detaches it, fifty times', async () => {
    for (let i = 0; i < 50; i++) {
      const disk = await guest.connect();
      const reading = load(disk);
      await disk.read(0, 4096);
      await guest.detach();
      await reading;
      await disk.close().catch(() => {});
    }
    expect([...host.backend.devices]).toEqual([]);
  });

  it('the backend is stopped and another adopts the ring where it was', async () => {
    const gate = new GatedImage(memoryImage({ size: MIB }));
    gate.open = true;
    host.images.set('disk', () => gate);
    const disk = await guest.connect({ ringPageOrder: 2 });
    const data = randomBytes(MIB);
    await disk.write(0, data);
    for (let round = 0; round < 5; round++) {
      const reads = Array.from({ length: 64 }, (_, i) => disk.read(i * 4096, 4096));
      await host.backend.close();
      expect(await back('state')).toBe('4');
      await host.startBackend();
      for (const [i, part] of (await Promise.all(reads)).entries()) {
        expect(Buffer.compare(part, data.subarray(i * 4096, (i + 1) * 4096))).toBe(0);
      }
    }
    await disk.close();
  });
});

it('eight guests at once', async () => {
  const guests = await Promise.all(Array.from({ length: 8 }, () => host.guest()));
  const disks = await Promise.all(guests.map((one, i) => one.connect({ queues: 1 + (i % 4) })));
  await Promise.all(disks.map(works));
  await Promise.all(disks.map((disk) => disk.close()));
  await Promise.all(guests.map((one) => one.detach()));
});
