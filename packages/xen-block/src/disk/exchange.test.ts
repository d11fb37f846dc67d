import { randomBytes } from 'node:crypto';
import { type BlockImage, ImageWrapper, memoryImage } from '@xenpv/blockdev';
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

/** One opening of an image that outlives it. */
class Opened extends ImageWrapper {
  protected override async closeOnce(): Promise<void> {}
}

const call = () => ({ signal: AbortSignal.timeout(30_000) });
/** Has what is opened next be another image with the same content, and notes what is done. */
function exchange(next: () => BlockImage | Promise<BlockImage>, done: string[] = []) {
  const before = host.images.get('image');
  return {
    done,
    replace: async (): Promise<undefined> => {
      done.push('replace');
      host.images.set('image', next);
    },
    undo: async () => {
      done.push('undo');
      if (before) host.images.set('image', before);
    },
  };
}

describe('an image that is exchanged', () => {
  it.each([1, 4])('goes unnoticed by a guest with %s queues that writes', async (queues) => {
    const storage = memoryImage({ size: MIB });
    host.images.set('image', () => new Opened(storage));
    const disk = await guest.connect({ queues }, { target: 'image' });
    let isOver = false;
    const content = Buffer.alloc(MIB);
    const writing = Promise.all(
      [0, 1, 2, 3].map(async (part) => {
        for (let i = 0; !isOver; i++) {
          const data = randomBytes(4096);
          const at = part * (MIB / 4) + ((i * 5) % 64) * 4096;
          await disk.write(at, data);
          data.copy(content, at);
        }
      }),
    );
    for (let i = 0; i < 6; i++) {
      const { done, ...way } = exchange(() => new Opened(storage));
      await host.device.exchangeImage(way, call());
      expect(done).toEqual(['replace']);
    }
    isOver = true;
    await writing;
    expect(Buffer.from(await disk.read(0, MIB)).equals(content)).toBe(true);
    await disk.close();
  });

  const failing: [what: string, next: () => BlockImage | Promise<BlockImage>, error: RegExp][] = [
    ['that cannot be opened', () => Promise.reject(new Error('it is broken')), /it is broken/],
    ['that is shorter', () => memoryImage({ size: MIB / 2 }), /1024 sectors of 512 bytes, not 2048 of 512/],
    ['that is longer', () => memoryImage({ size: 2 * MIB }), /4096 sectors of 512 bytes/],
  ];
  it.each(failing)('by one %s is what it was', async (_what, next, error) => {
    const storage = memoryImage({ size: MIB });
    host.images.set('image', () => new Opened(storage));
    const disk = await guest.connect({}, { target: 'image' });
    await disk.write(0, randomBytes(4096));
    const { done, ...way } = exchange(next);
    await expect(host.device.exchangeImage(way, call())).rejects.toThrow(error);
    expect(done).toEqual(['replace', 'undo']);
    const later = randomBytes(4096);
    await disk.write(4096, later);
    expect(Buffer.from(await disk.read(4096, 4096)).equals(later)).toBe(true);
    expect(disk.size).toBe(MIB);
    await disk.close();
  });

  it('by one elsewhere has that name from then on, when nothing was in flight and what came before it has worked', async () => {
    const storage = memoryImage({ size: MIB });
    const [old, next] = [new Opened(storage), new Opened(storage)];
    host.images.set('image', () => old);
    host.images.set('elsewhere', () => next);
    const disk = await guest.connect({}, { target: 'image' });
    const done: string[] = [];
    const way = {
      prepare: async () => {
        done.push(`prepare with ${host.device.statistics().inFlight} in flight`);
        if (done.length === 1) throw new Error('not yet');
      },
      replace: async () => {
        done.push('replace');
        return { target: 'elsewhere', format: 'raw' };
      },
      undo: async () => void done.push('undo'),
    };
    await expect(host.device.exchangeImage(way, call())).rejects.toThrow('not yet');
    expect([host.device.config?.target, done.splice(1)]).toEqual(['image', []]);
    await disk.write(0, randomBytes(4096));
    await host.device.exchangeImage(way, call());
    expect(done).toEqual(['prepare with 0 in flight', 'prepare with 0 in flight', 'replace']);
    expect(host.device.config?.target).toBe('elsewhere');
    await disk.write(4096, randomBytes(4096));
    host.images.set('broken', () => Promise.reject(new Error('it is broken')));
    const broken = { ...way, replace: async () => ({ target: 'broken', format: 'raw' }) };
    await expect(host.device.exchangeImage(broken, call())).rejects.toThrow('it is broken');
    expect([done.at(-1), host.device.config?.target]).toEqual(['undo', 'elsewhere']);
    await disk.write(0, randomBytes(4096));
    await disk.close();
  });

  it('in vain, and cannot be opened again, has its disk held until it can', async () => {
    const storage = memoryImage({ size: MIB });
    host.images.set('image', () => new Opened(storage));
    const disk = await guest.connect({}, { target: 'image' });
    const broken = () => Promise.reject(new Error('it is broken'));
    const { done, ...way } = exchange(broken);
    host.images.set('image', broken);
    await expect(host.device.exchangeImage({ ...way, undo: async () => {} }, call())).rejects.toThrow('it is broken');
    expect(done).toEqual(['replace']);
    await vi.waitFor(() => expect(host.device.held).toBeDefined());
    const written = randomBytes(4096);
    const writing = disk.write(0, written);
    host.images.set('image', () => new Opened(storage));
    host.device.retry();
    await writing;
    expect(Buffer.from(await disk.read(0, 4096)).equals(written)).toBe(true);
    await disk.close();
  });

  it('whose storage hangs stays, when nobody waits any more', async () => {
    const gated = new GatedImage(memoryImage({ size: MIB }));
    host.images.set('image', () => gated);
    const disk = await guest.connect({}, { target: 'image' });
    const writing = disk.write(0, randomBytes(4096));
    await vi.waitFor(() => expect(host.device.statistics().inFlight).toBe(1));
    const { done, ...way } = exchange(() => memoryImage({ size: MIB }));
    await expect(host.device.exchangeImage(way, { signal: AbortSignal.timeout(50) })).rejects.toThrow(/timeout/i);
    expect(done).toEqual([]);
    gated.open = true;
    gated.release();
    await writing;
    await disk.close();
  });
});

describe('what the storage has not flushed', () => {
  class Unsettled extends Opened {
    isSettled = true;
    override get settle() {
      return async () => this.isSettled;
    }
  }

  it('is flushed before, or the image stays', async () => {
    const image = new Unsettled(memoryImage({ size: MIB }));
    image.isSettled = false;
    host.images.set('image', () => image);
    const disk = await guest.connect({}, { target: 'image' });
    const { done, ...way } = exchange(() => new Opened(image));
    await expect(host.device.exchangeImage(way, call())).rejects.toThrow('cannot be flushed within 10 seconds');
    expect(done).toEqual([]);
    await disk.write(0, randomBytes(4096));
    image.isSettled = true;
    await host.device.exchangeImage(way, call());
    expect(done).toEqual(['replace']);
    await disk.write(0, randomBytes(4096));
    await disk.close();
  });
});

describe('is refused', () => {
  it('to a drive', async () => {
    host.images.set('image', () => memoryImage({ size: MIB, readOnly: true }));
    const disk = await guest.connect({}, { target: 'image', deviceType: 'cdrom', readOnly: true });
    const { done, ...way } = exchange(() => memoryImage({ size: MIB }));
    await expect(host.device.exchangeImage(way, call())).rejects.toMatchObject({ code: 'EINVAL', op: 'exchange' });
    expect(done).toEqual([]);
    await disk.close();
  });
});
