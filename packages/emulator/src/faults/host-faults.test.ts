import { GrantCopyBatch, GrantStatus } from '@xenpv/xen-sys';
import { XenstoreClient } from '@xenpv/xenstore';
import { describe, expect, it, vi } from 'vitest';
import { EmulatedHost } from '../host.js';

async function scene() {
  const host = await EmulatedHost.create();
  const guest = await host.createDomain({ name: 'guest', memoryMiB: 1 });
  return { host, guest, domid: guest.domid, [Symbol.asyncDispose]: () => host.close() };
}

type Scene = Awaited<ReturnType<typeof scene>>;

/** A channel from domain 0 to the guest; `fired` says how many ports of the guest's have fired since. */
function channel({ host, guest }: Scene) {
  const theirs = guest.provider.openEventChannels();
  const ours = host.provider().openEventChannels();
  const remote = theirs.bindUnbound(0);
  const port = ours.bindInterdomain(guest.domid, remote);
  const ports = new Uint32Array(8);
  const fired = () => {
    const count = theirs.pending(ports);
    theirs.unmask(ports, count);
    return count;
  };
  return { remote, fired, notify: () => ours.notify(port) };
}

/** A page that the guest granted, and what domain 0 does with it. */
function grant({ host, guest }: Scene) {
  const { refs } = guest.provider.openGrantAllocator().allocate(0, 2, { writable: true });
  const table = host.provider().openGrantTable();
  const batch = new GrantCopyBatch(2, table.register(new SharedArrayBuffer(4096)));
  for (const ref of refs) batch.fromGrant(guest.domid, ref, 0, 0, 8);
  const copy = () => {
    expect(table.copy(batch)).toBe(0);
    return [batch.status(0), batch.status(1)];
  };
  return { refs, copy, map: () => table.map(guest.domid, refs, { writable: false }) };
}

/** The code of what `call` throws, or `done`. */
function outcome(call: () => unknown): string {
  try {
    call();
    return 'done';
  } catch (error) {
    return (error as { code: string }).code;
  }
}

async function clientOf(s: Scene, domid: number): Promise<XenstoreClient> {
  return XenstoreClient.open(await s.host.provider(domid).connectXenstore());
}

describe('events', () => {
  it('get lost while the fault is on, and arrive before and after it', async () => {
    await using s = await scene();
    const { notify, fired } = channel(s);
    expect([notify(), fired()]).toEqual([0, 1]);
    {
      using fault = s.host.faults.loseEvents({ domid: s.domid });
      expect([notify(), fired()]).toEqual([0, 0]);
      expect([fault.seen, fault.hits]).toEqual([1, 1]);
    }
    expect(s.host.faults.active).toEqual([]);
    expect([fired(), notify(), fired()]).toEqual([0, 0, 1]);
  });

  it('of another port or another domain are left alone', async () => {
    await using s = await scene();
    const { notify, fired, remote } = channel(s);
    using other = s.host.faults.loseEvents({ domid: s.domid, port: remote + 1 });
    using elsewhere = s.host.faults.loseEvents({ domid: 0 });
    expect([notify(), fired()]).toEqual([0, 1]);
    expect([other.seen, elsewhere.seen]).toEqual([0, 0]);
  });

  it('are counted, so that only the second one gets lost', async () => {
    await using s = await scene();
    const { notify, fired } = channel(s);
    const fault = s.host.faults.loseEvents({ domid: s.domid, at: 2 });
    const got = [1, 2, 3].map(() => notify() + fired());
    expect(got).toEqual([1, 0, 1]);
    expect([fault.seen, fault.hits]).toEqual([3, 1]);
  });

  it('come when the fault ends, also through a later fault that has ended by then', async () => {
    await using s = await scene();
    const { notify, fired } = channel(s);
    const held = s.host.faults.holdEvents({ domid: s.domid });
    const lost = s.host.faults.loseEvents({ domid: s.domid, at: 2 });
    notify();
    expect(fired()).toBe(0);
    lost.end();
    held.end();
    held.end();
    expect(fired()).toBe(1);
  });

  it('come late by themselves', async () => {
    await using s = await scene();
    const { notify, fired } = channel(s);
    using fault = s.host.faults.holdEvents({ domid: s.domid, delayMs: 2 });
    notify();
    await expect.poll(fired).toBe(1);
    expect(fault.hits).toBe(1);
  });

  it('that are held for a domain that ends do no harm', async () => {
    await using s = await scene();
    const { notify } = channel(s);
    const fault = s.host.faults.holdEvents({ domid: s.domid });
    notify();
    await s.guest.destroy();
    fault.end();
    expect(s.host.usage(s.domid).ports).toBe(0);
  });
});

describe('grants', () => {
  it.each([
    [undefined, 'EAGAIN'],
    [GrantStatus.noSpace, 'ENOMEM'],
    [GrantStatus.badGntref, 'EINVAL'],
  ])('cannot be mapped: status %s is %s; copies go on', async (status, code) => {
    await using s = await scene();
    const { refs, map, copy } = grant(s);
    using fault = s.host.faults.failMaps({ domid: s.domid, ref: refs[1], status });
    expect(outcome(map)).toBe(code);
    expect(copy()).toEqual([0, 0]);
    fault.end();
    expect(outcome(map)).toBe('done');
    expect(fault.hits).toBe(1);
    expect(s.guest.usage().mapped).toBe(2);
  });

  it('cannot be copied: one segment fails, the other does not, and maps go on', async () => {
    await using s = await scene();
    const { refs, map, copy } = grant(s);
    using fault = s.host.faults.failCopies({ domid: s.domid, ref: refs[1], status: GrantStatus.eagain });
    expect(outcome(map)).toBe('done');
    expect(copy()).toEqual([0, GrantStatus.eagain]);
    expect([fault.seen, fault.hits]).toEqual([1, 1]);
    fault.end();
    expect(copy()).toEqual([0, 0]);
  });
});

describe('xenstore', () => {
  it('has a conflict at the second commit, and the client begins anew', async () => {
    await using s = await scene();
    const client = await clientOf(s, 0);
    using fault = s.host.faults.conflict({ at: 2 });
    let tries = 0;
    for (const path of ['/one', '/two']) await client.transaction(async (tx) => tx.write(path, ++tries));
    expect([await client.read('/one'), await client.read('/two')]).toEqual(['1', '3']);
    expect([fault.seen, fault.hits]).toEqual([3, 1]);
    await client.close();
  });

  it('tells of watches when the fault ends, once for equal ones', async () => {
    await using s = await scene();
    const watcher = await s.host.provider().connectXenstore();
    const watchEvents: string[] = [];
    const XS_WATCH_EVENT = 15;
    watcher.start({
      data: (chunk) => {
        const message = Buffer.from(chunk);
        if (message.readUInt32LE(0) === XS_WATCH_EVENT) watchEvents.push(message.subarray(16).toString());
      },
      close: () => {},
    });
    const watch = Buffer.from('................/a\0token\0');
    for (const [at, word] of [4, 1, 0, watch.length - 16].entries()) watch.writeUInt32LE(word, at * 4);
    watcher.send(watch);
    await vi.waitFor(() => expect(watchEvents).toEqual(['/a\0token\0']));
    const fault = s.host.faults.holdWatches({ domid: 0, path: '/a' });
    const client = await clientOf(s, 0);
    for (const path of ['/a/x', '/a/y', '/a/x']) await client.write(path, 'new');
    expect(watchEvents).toHaveLength(1);
    fault.end();
    await client.write('/a/last', '');
    const told = ['/a', '/a/x', '/a/y', '/a/last'].map((path) => `${path}\0token\0`);
    await vi.waitFor(() => expect(watchEvents).toEqual(told));
    expect(fault.hits).toBe(3);
    await Promise.all([client.close(), watcher.close()]);
  });

  it('ends connections of a domain, refuses new ones, and has them again; the toolstack goes on', async () => {
    await using s = await scene();
    const before = await clientOf(s, 0);
    const fault = s.host.faults.cutXenstore({ domid: 0 });
    await expect(before.read('/local/domain/0/name')).rejects.toThrow();
    const during = await clientOf(s, 0);
    await expect(during.read('/local/domain/0/name')).rejects.toThrow();
    expect(fault.hits).toBe(2);
    await s.host.toolstack.attachDisk(s.domid, { vdev: 'xvda', target: '/images/a.img' });
    fault.end();
    const after = await clientOf(s, 0);
    expect(await after.read('/local/domain/0/name')).toBe('Domain-0');
    await Promise.all([before, during, after].map((client) => client.close()));
  });

  it('has no room for a domain, and has it again', async () => {
    await using s = await scene();
    const client = await clientOf(s, s.domid);
    const write = (name: string) => client.write(`data/${name}`, 'x').catch((error: { code: string }) => error.code);
    expect(await write('a')).toBe(undefined);
    const fault = s.host.faults.limitXenstore({ domid: s.domid, quotas: { nodes: 1 } });
    expect(await write('b')).toBe('ENOSPC');
    expect(fault.hits).toBe(1);
    fault.end();
    expect(await write('b')).toBe(undefined);
    await client.close();
  });
});

describe('the faults of a host', () => {
  it('end with it, and a domain that is not there has none', async () => {
    const s = await scene();
    const fault = s.host.faults.loseEvents({ domid: s.domid });
    expect(s.host.faults.active).toEqual([fault]);
    await s.host.close();
    expect(fault.ended).toBe(true);
    expect(outcome(() => s.host.faults.loseEvents({ domid: s.domid }))).toBe('ESRCH');
  });

  it.each([{ at: 0 }, { at: 1.5 }, { times: 0 }])('refuses %j', async (times) => {
    await using s = await scene();
    expect(outcome(() => s.host.faults.loseEvents({ domid: s.domid, ...times }))).toBe('EINVAL');
    expect(s.host.faults.active).toEqual([]);
  });
});
