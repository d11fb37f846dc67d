import { BlockOp } from '@xenpv/blockdev';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { OnError } from '../../disk-description.js';
import { FailingStorage } from '../../testing/failing-image.js';
import { TestHost } from '../../testing/host.js';

const PAGE = 4096;
const WRITES = [BlockOp.write, BlockOp.writeFua];

let host: TestHost;
let storage: FailingStorage;

async function start(onError: OnError, threads = 0) {
  host = await TestHost.start({ onError, threads });
  storage = new FailingStorage();
  host.images.set('disk', () => storage.image());
  const guest = await host.guest();
  return { guest, disk: await guest.connect() };
}

afterEach(async () => {
  storage.mend();
  await host.device?.resume();
  await host[Symbol.asyncDispose]();
});

const data = (byte: number) => new Uint8Array(PAGE).fill(byte);
const isWritten = (byte: number) => storage.bytes.subarray(0, PAGE).every((each) => each === byte);

describe.each([0, 1])('failures that are kept for work on the image, with %i threads', (threads) => {
  it('stop a disk that reports errors, and are done again when the work is over', async () => {
    const { disk } = await start('report', threads);
    const onFailure = vi.fn();
    const kept = await host.device.keepFailures(onFailure);
    expect(host.device.onError).toBe('stop');
    storage.fail('ENOSPC', WRITES);
    const writes = [disk.write(0, data(1)), disk.write(PAGE, data(2))];
    await vi.waitFor(() => expect(onFailure).toHaveBeenCalledOnce());
    expect(onFailure.mock.calls[0][0]).toMatchObject({ operation: 'write', errno: 'ENOSPC' });
    storage.mend();
    await kept.release();
    await Promise.all(writes);
    expect(isWritten(1)).toBe(true);
    expect(host.device.stopped).toBeUndefined();
    expect(host.device.onError).toBe('report');
    await disk.close();
  });

  it('are reported by the next try when the work was not why', async () => {
    const { disk } = await start('report', threads);
    const onFailure = vi.fn();
    const kept = await host.device.keepFailures(onFailure);
    storage.fail('EIO', WRITES);
    const failed = expect(disk.write(0, data(1))).rejects.toThrow();
    await vi.waitFor(() => expect(onFailure).toHaveBeenCalled());
    await kept.release();
    await failed;
    await kept.release();
    await expect(disk.write(0, data(1))).rejects.toThrow();
    expect(host.device.stopped).toBeUndefined();
    await disk.close();
  });
});

describe('failures that are kept', () => {
  it('are kept until the last work is over', async () => {
    const { disk } = await start('report');
    const [first, second] = [vi.fn(), vi.fn()];
    const works = [await host.device.keepFailures(first), await host.device.keepFailures(second)];
    storage.fail('ENOSPC', WRITES);
    const write = disk.write(0, data(3));
    await vi.waitFor(() => expect(second).toHaveBeenCalled());
    expect(first).toHaveBeenCalled();
    storage.mend();
    await works[0].release();
    expect(host.device.stopped).toBeDefined();
    await works[1].release();
    await write;
    await disk.close();
  });

  it('leave a disk stopped that was before, and stop it for good where its policy says so', async () => {
    const { disk } = await start('stop');
    storage.fail('ENOSPC', WRITES);
    const write = disk.write(0, data(4));
    await vi.waitFor(() => expect(host.device.stopped).toBeDefined());
    const kept = await host.device.keepFailures(() => {});
    await kept.release();
    expect(host.device.stopped).toBeDefined();
    const again = await host.device.keepFailures(() => {});
    await host.device.resume();
    await vi.waitFor(() => expect(host.device.stopped).toBeDefined());
    await again.release();
    // It was tried once more.
    await vi.waitFor(() => expect(host.device.stopped).toBeDefined());
    storage.mend();
    await host.device.resume();
    await write;
    await disk.close();
  });

  it('hold for a frontend that comes meanwhile', async () => {
    const { guest, disk } = await start('report');
    const onFailure = vi.fn();
    const kept = await host.device.keepFailures(onFailure);
    await disk.close();
    const next = await guest.reconnect();
    storage.fail('ENOSPC', WRITES);
    const write = next.write(0, data(5));
    await vi.waitFor(() => expect(onFailure).toHaveBeenCalled());
    storage.mend();
    await kept.release();
    await write;
    await next.close();
  });
});
