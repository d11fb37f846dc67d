import type { Worker } from 'node:worker_threads';
import { memoryImage } from '@xenpv/blockdev';
import { describe, expect, it, vi } from 'vitest';
import type { XenBlockError } from '../errors.js';
import { bytes, same } from '../testing/bytes.js';
import { TestHost } from '../testing/host.js';

const MIB = 1 << 20;

/** A guest with a disk of known bytes. */
async function serve(host: TestHost) {
  const data = bytes(MIB, 5);
  const image = memoryImage({ data: new Uint8Array(data) });
  const guest = await host.guest();
  host.images.set('disk', () => image);
  const front = await guest.connect();
  const state = () => host.store.read(`/local/domain/0/backend/qdisk/${guest.domid}/51712/state`);
  return { data, image, front, state };
}

describe('a disk that was served', () => {
  it('and whose image does not open for the next process is held, and answers when it does', async () => {
    await using host = await TestHost.start();
    const { data, image, front, state } = await serve(host);
    await host.backend.close();
    host.images.set('disk', () => Promise.reject(Object.assign(new Error('no such image'), { code: 'ENOENT' })));
    const read = front.read(0, 4096);
    await host.startBackend();
    await vi.waitFor(() => expect(host.device.held?.attempts).toBeGreaterThan(1));
    expect(host.device.held).toMatchObject({ reason: 'no such image', since: expect.any(Date) });
    expect(host.device.negotiated).toBeUndefined();
    expect(await state()).toBe('4');
    host.images.set('disk', () => image);
    host.device.retry();
    expect(same(await read, data.subarray(0, 4096))).toBe(true);
    await vi.waitFor(() => expect(host.device.held).toBeUndefined());
    await front.close();
  });

  it('and whose ring can be attached nowhere after a move is held, and served again', async () => {
    await using host = await TestHost.start({ threads: 1 });
    const { data, front, state } = await serve(host);
    const refuse = async () => Promise.reject(new Error('no memory for the ring'));
    const spies = host.backend.hosts.map((one) => vi.spyOn(one, 'attach').mockImplementation(refuse));
    await host.device.moveQueue(0, host.backend.hosts[0]).catch(() => {});
    const read = front.read(0, 4096);
    await vi.waitFor(() => expect(host.device.held?.reason).toMatch(/no memory for the ring/));
    expect(await state()).toBe('4');
    for (const spy of spies) spy.mockRestore();
    host.device.retry();
    expect(same(await read, data.subarray(0, 4096))).toBe(true);
    expect(await state()).toBe('4');
    await front.close();
  });

  it('by a thread that ends stays Connected, and the program is told', async () => {
    const workers: Worker[] = [];
    const note = (worker: Worker) => workers.push(worker);
    process.on('worker', note);
    const lost: XenBlockError[] = [];
    await using host = await TestHost.start({ threads: 1, onThreadLost: (error) => lost.push(error) });
    process.off('worker', note);
    const { state } = await serve(host);
    await workers[0].terminate();
    await vi.waitFor(() => expect(lost).toHaveLength(1));
    expect(lost[0].message).toMatch(/^a thread that serves rings has ended: /);
    expect(await state()).toBe('4');
    await host.backend.close();
    expect(await state()).toBe('4');
    expect(lost).toHaveLength(1);
  });
});
