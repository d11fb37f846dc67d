import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { type FaultPlan, faultyProvider, GrantCopyBatch, GrantStatus, type XenProvider } from '@xenpv/xen-sys';
import { testProvider } from '@xenpv/xen-sys/testing';
import { XenstoreClient } from '@xenpv/xenstore';
import { describe, expect, it } from 'vitest';
import { EmulatedHost } from './host.js';

/** A guest, and domain 0 with faults. */
async function scene(plan: FaultPlan) {
  const host = await EmulatedHost.create();
  const guest = await host.createDomain({ name: 'guest', memoryMiB: 1 });
  const provider = faultyProvider(host.provider(), plan);
  return { host, guest, provider, [Symbol.asyncDispose]: () => host.close() };
}

/** A channel from `sender` to the guest, and the ports that have fired there. */
function channel({ guest, provider }: Awaited<ReturnType<typeof scene>>) {
  const theirs = guest.provider.openEventChannels();
  const ours = provider.openEventChannels();
  const remote = theirs.bindUnbound(0);
  const port = ours.bindInterdomain(guest.domid, remote);
  const ports = new Uint32Array(8);
  const fired = () => {
    const count = theirs.pending(ports);
    theirs.unmask(ports, count);
    return count;
  };
  return { ours, theirs, port, fired };
}

testProvider(
  'faulty, with a plan of nothing,',
  async () => {
    const host = await EmulatedHost.create();
    const guest = await host.createDomain({ name: 'guest', memoryMiB: 1 });
    return {
      backend: { domid: 0, provider: faultyProvider(host.provider(), {}) },
      frontend: { domid: guest.domid, provider: faultyProvider(guest.provider, {}) },
      close: () => host.close(),
    };
  },
  { describe, it },
);

describe('a plan of faults', () => {
  it('fails the third map and no other, and counts it', async () => {
    await using s = await scene({ map: { at: 3, error: 'EAGAIN' } });
    const allocator = s.guest.provider.openGrantAllocator();
    const { refs } = allocator.allocate(0, 1, { writable: true });
    const table = s.provider.openGrantTable();
    const map = () => table.map(s.guest.domid, refs, { writable: true });
    map();
    expect(s.provider.unhit()).toEqual(['map']);
    map();
    expect(map).toThrow(expect.objectContaining({ code: 'EAGAIN', errno: 11, op: 'gnttab.map' }));
    map();
    expect(s.provider.counts.calls('map')).toBe(4);
    expect(s.provider.counts.hits('map')).toBe(1);
    expect(s.provider.unhit()).toEqual([]);
    table.close();
    expect(s.guest.usage().mapped).toBe(0);
  });

  it.each([
    ['openEventChannels', (xen: XenProvider) => xen.openEventChannels()],
    ['openGrantTable', (xen: XenProvider) => xen.openGrantTable()],
    ['openGrantAllocator', (xen: XenProvider) => xen.openGrantAllocator()],
    ['openForeignMemory', (xen: XenProvider) => xen.openForeignMemory()],
    ['bindUnbound', (xen: XenProvider) => xen.openEventChannels().bindUnbound(0)],
    ['bindInterdomain', (xen: XenProvider) => xen.openEventChannels().bindInterdomain(0, 1)],
    ['allocate', (xen: XenProvider) => xen.openGrantAllocator().allocate(0, 1, { writable: true })],
    ['mapForeign', (xen: XenProvider) => xen.openForeignMemory().map(0, [1], { writable: true })],
  ] as const)('makes %s throw', async (operation, call) => {
    await using s = await scene({ [operation]: { at: 1, times: Infinity, error: 'ENOMEM' } });
    expect(() => call(s.provider)).toThrow(expect.objectContaining({ code: 'ENOMEM' }));
    expect(s.provider.counts.hits(operation)).toBe(1);
  });

  it('fails one segment of a batch, which is not copied, with its status; the others are', async () => {
    await using s = await scene({ copySegment: { at: 2, status: GrantStatus.eagain } });
    const pages = s.guest.provider.openGrantAllocator().allocate(0, 3, { writable: true });
    const table = s.provider.openGrantTable();
    const local = new SharedArrayBuffer(4096);
    new Uint8Array(local).fill(7);
    const batch = new GrantCopyBatch(3, table.register(local));
    for (const ref of pages.refs) batch.toGrant(s.guest.domid, ref, 0, 0, 100);
    expect(table.copy(batch)).toBe(0);
    expect([0, 1, 2].map((i) => batch.status(i))).toEqual([0, GrantStatus.eagain, 0]);
    expect([...pages.offsets].map((at) => new Uint8Array(pages.buffer)[at])).toEqual([7, 0, 7]);
    // The same batch again is whole.
    expect(table.copy(batch)).toBe(0);
    expect([...pages.offsets].map((at) => new Uint8Array(pages.buffer)[at + 99])).toEqual([7, 7, 7]);
  });

  it('fails a whole batch with a negative errno', async () => {
    await using s = await scene({ copy: { at: 1, error: 'EFAULT' } });
    expect(s.provider.openGrantTable().copy(new GrantCopyBatch(1))).toBe(-14);
  });

  it('loses, holds, doubles and refuses events', async () => {
    await using s = await scene({
      notify: [
        { at: 1, event: 'lost' },
        { at: 2, event: 'held' },
        { at: 3, event: 'doubled' },
        { at: 4, error: 'EINVAL' },
        { at: 5, delayMs: 1 },
      ],
    });
    const { ours, port, fired } = channel(s);
    expect([ours.notify(port), fired()]).toEqual([0, 0]);
    expect([ours.notify(port), fired()]).toEqual([0, 0]);
    expect([s.provider.release(), fired(), s.provider.release()]).toEqual([1, 1, 0]);
    expect([ours.notify(port), fired()]).toEqual([0, 1]);
    await expect.poll(fired).toBe(1);
    expect([ours.notify(port), fired()]).toEqual([-22, 0]);
    expect(ours.notify(port)).toBe(0);
    await expect.poll(fired).toBe(1);
    expect(s.provider.counts.total).toBe(5);
  });

  it('sends nothing late through a handle that was closed meanwhile', async () => {
    await using s = await scene({ notify: (call) => ({ event: call.number === 1 ? 'doubled' : 'held' }) });
    const { ours, port, fired } = channel(s);
    ours.notify(port);
    ours.notify(port);
    expect(fired()).toBe(1);
    ours.close();
    ours.close();
    expect(s.provider.release()).toBe(0);
    expect(ours.notify(port)).toBe(-22);
    await new Promise(setImmediate);
    expect(fired()).toBe(0);
  });

  it('refuses a connection to xenstored once, and requests on the next', async () => {
    const XS_WRITE = 11;
    await using s = await scene({
      connectXenstore: { at: 1, error: 'ECONNREFUSED' },
      xenstoreRequest: ({ type }) => (type === XS_WRITE ? { error: 'ENOSPC' } : undefined),
    });
    await expect(s.provider.connectXenstore()).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    const client = XenstoreClient.open(await s.provider.connectXenstore());
    await expect(client.write('/a', '1')).rejects.toMatchObject({ code: 'ENOSPC' });
    expect(await client.exists('/a')).toBe(false);
    await client.close();
  });

  it('loses the connection after a request was carried out, or before', async () => {
    await using s = await scene({
      xenstoreRequest: [
        { at: 1, lost: 'after' },
        { at: 2, lost: 'before' },
      ],
    });
    for (const path of ['/after', '/before']) {
      const client = XenstoreClient.open(await s.provider.connectXenstore());
      await expect(client.write(path, '1')).rejects.toThrow();
      await client.close();
    }
    const client = XenstoreClient.open(await s.provider.connectXenstore());
    expect(await client.exists('/after')).toBe(true);
    expect(await client.exists('/before')).toBe(false);
    await client.close();
  });

  it('has a transaction begun anew when its commit is refused with EAGAIN', async () => {
    const XS_TRANSACTION_END = 7;
    let refused = 0;
    await using s = await scene({
      xenstoreRequest: ({ type }) => (type === XS_TRANSACTION_END && refused++ < 2 ? { error: 'EAGAIN' } : undefined),
    });
    const client = XenstoreClient.open(await s.provider.connectXenstore());
    let tries = 0;
    await client.transaction(async (tx) => tx.write('/tries', ++tries));
    expect(await client.read('/tries')).toBe('3');
    await client.close();
  });

  it.each([
    [{ mpa: { at: 1, error: 'EIO' } }, /mpa is no operation that can fail; they are .*map/],
    [{ lacks: ['copy'] }, /copy is no feature; they are mapMultiple, grantCopy/],
    [{ map: { at: 0, error: 'EIO' } }, /map: at is 0; calls are counted from 1/],
    [{ map: [{ at: 1, times: 0, error: 'EIO' }] }, /map: times is 0/],
    [{ map: { at: 1, error: 'EOOPS' } }, /map: EOOPS is no errno/],
  ])('that makes no sense is refused: %j', async (plan, message) => {
    await using host = await EmulatedHost.create();
    expect(() => faultyProvider(host.provider(), plan as FaultPlan)).toThrow(message);
  });

  it('may take features away, which then are refused and not announced', async () => {
    await using s = await scene({ lacks: ['mapMultiple', 'grantCopy', 'foreignMemory', 'grantAllocator'] });
    expect(Object.values(s.provider.features)).toEqual([false, false, false, false]);
    const { refs } = s.guest.provider.openGrantAllocator().allocate(0, 2, { writable: true });
    const table = s.provider.openGrantTable();
    const map = (some: Uint32Array) => table.map(s.guest.domid, some, { writable: true });
    expect(() => map(refs)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(map(refs.subarray(1)).refs).toEqual(refs.subarray(1));
    expect(table.copy(new GrantCopyBatch(1))).toBe(-38);
    const missing = expect.objectContaining({ code: 'ERR_NO_DEVICE' });
    expect(() => s.provider.openForeignMemory()).toThrow(missing);
    expect(() => s.provider.openGrantAllocator()).toThrow(missing);
    table.close();
  });

  it('counts on over threads', async () => {
    await using s = await scene({ openGrantTable: { at: 2, error: 'EBUSY' } });
    s.provider.openGrantTable().close();
    const worker = new Worker(fileURLToPath(new URL('testing/open-table.mjs', import.meta.url)), {
      workerData: s.provider.share(),
    });
    const outcome = await new Promise((resolve, reject) => {
      worker.on('message', resolve);
      worker.on('error', reject);
    });
    expect(outcome).toBe('EBUSY');
    expect(s.provider.counts.hits('openGrantTable')).toBe(1);
    await worker.terminate();
  });

  it('with functions is not shared with threads', async () => {
    await using s = await scene({ map: () => undefined });
    expect(() => s.provider.share()).toThrow(/the plan of map is a function/);
  });
});
