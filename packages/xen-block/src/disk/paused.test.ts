import type { Blkfront } from '@xenpv/blkfront';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { type TestGuest, TestHost } from '../testing/host.js';

const PAGE = 4096;

let host: TestHost;
let guest: TestGuest;

afterEach(() => host[Symbol.asyncDispose]());

async function start(): Promise<Blkfront> {
  host = await TestHost.start();
  guest = await host.guest();
  return guest.connect();
}

const path = () => `/local/domain/0/backend/qdisk/${guest.domid}/51712`;
/** All that the disk was asked for and has taken until now is answered. */
async function idle(): Promise<void> {
  await host.device.drain();
  host.device.undrain();
}

describe('a disk that is paused', () => {
  it('takes nothing until it is told to, and then all', async () => {
    const disk = await start();
    await disk.read(0, PAGE);
    await host.device.setPaused(true);
    await host.device.setPaused(true);
    let answered = 0;
    const reads = Array.from({ length: 8 }, async () => {
      await disk.read(0, PAGE);
      answered++;
    });
    await idle();
    // A pass of another disk of the same thread.
    const other = await guest.connect({}, { vdev: 'xvdb' });
    await other.read(0, PAGE);
    expect([answered, host.device.statistics().inFlight]).toEqual([0, 0]);
    expect(Date.parse(await host.store.read(`${path()}/paused`))).toBe(host.device.paused?.getTime());
    await host.device.setPaused(false);
    await Promise.all(reads);
    expect(host.device.paused).toBeUndefined();
    expect(await host.store.exists(`${path()}/paused`)).toBe(false);
    await host.device.setPaused(false);
    await disk.read(0, PAGE);
  });

  it('is so by its key too, whatever is in it', async () => {
    const disk = await start();
    await host.store.write(`${path()}/paused`, 'yes');
    await vi.waitFor(() => expect(host.device.paused).toBeInstanceOf(Date));
    const read = disk.read(0, PAGE);
    await idle();
    expect(host.device.statistics().read.operations).toBe(0);
    await host.store.remove(`${path()}/paused`);
    await read;
  });

  it('is so for the next frontend', async () => {
    const disk = await start();
    await host.device.setPaused(true);
    await disk.close();
    const next = await guest.reconnect();
    const read = next.read(0, PAGE);
    await idle();
    expect(host.device.statistics().inFlight).toBe(0);
    await host.device.setPaused(false);
    await read;
  });

  it('is so for the process after this one', async () => {
    const disk = await start();
    await host.device.setPaused(true);
    const since = host.device.paused;
    const read = disk.read(0, PAGE);
    await host.backend.close();
    await host.startBackend();
    await vi.waitFor(() => expect(host.device.negotiated).toBeDefined());
    await idle();
    expect(host.device.paused).toEqual(since);
    expect(host.device.statistics().read.operations).toBe(0);
    await host.device.setPaused(false);
    await read;
  });

  it('is detached, and its guest destroyed, with requests in its ring', async () => {
    const disk = await start();
    await host.device.setPaused(true);
    void disk.read(0, PAGE).catch(() => {});
    await guest.destroy();
    await vi.waitFor(() => expect(host.device).toBeUndefined());
  });
});
