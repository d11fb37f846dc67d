import { setTimeout as sleep } from 'node:timers/promises';
import type { XenstoreTransport } from '@xenpv/xen-sys';
import { XenstoreClient } from '@xenpv/xenstore';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { TestDaemon } from '../testing/daemon.js';
import type { EmbeddedHost } from '../testing/host.js';
import { Scrape } from '../testing/scrape.js';

let daemon: TestDaemon;
let host: EmbeddedHost;

beforeEach(async () => {
  daemon = await TestDaemon.create();
  host = daemon.host;
});
afterEach(() => daemon[Symbol.asyncDispose]());

/** A transport that ends as if xenstored had gone away, when the function that it adds to `breakers` is called. */
function breakable(transport: XenstoreTransport, breakers: (() => void)[]): XenstoreTransport {
  const start = transport.start.bind(transport);
  transport.start = (listener) => {
    start(listener);
    breakers.push(() => {
      void transport.close();
      listener.close(new Error('xenstored is gone'));
    });
  };
  return transport;
}

describe('the daemon while xenstored is away', () => {
  it('goes on when it comes back', async () => {
    const provider = host.host.provider(0);
    const breakers: (() => void)[] = [];
    const connect = provider.connectXenstore.bind(provider);
    provider.connectXenstore = async (options) => breakable(await connect(options), breakers);
    const metrics = host.path('metrics');
    const ended = daemon.start({ 'control-socket': false, metrics }, provider);
    await daemon.says('ready');
    const before = await daemon.attach('before');
    const guest = await host.connectGuest(before.domid);
    expect((await Scrape.from(metrics)).value('xen_blockd_xenstore_losses_total')).toBe(0);
    breakers.pop()!();
    await daemon.says('connected to xenstored again');
    const now = await Scrape.from(metrics);
    expect(now.value('xen_blockd_xenstore_losses_total')).toBe(1);
    expect(now.value('xen_blockd_xenstore_connected')).toBe(1);
    expect(Buffer.from(await guest.read(0, 512)).equals(before.data.subarray(0, 512))).toBe(true);
    const after = await daemon.attach('after');
    const another = await host.connectGuest(after.domid);
    expect(Buffer.from(await another.read(0, 512)).equals(after.data.subarray(0, 512))).toBe(true);
    for (const { domid } of [before, after]) await host.host.toolstack.detachDisk(domid, 'xvda');
    daemon.stop();
    expect(await ended).toBe(0);
  });

  it('connects thirty disks that are attached while xenstored comes and goes', { timeout: 60_000 }, async () => {
    const provider = host.host.provider(0);
    const breakers: (() => void)[] = [];
    const connect = provider.connectXenstore.bind(provider);
    let isAway = false;
    provider.connectXenstore = async (options) => {
      if (isAway) throw new Error('no xenstored');
      return breakable(await connect(options), breakers);
    };
    const ended = daemon.start({ 'control-socket': false }, provider);
    await daemon.says('ready');
    const outages = (async () => {
      for (let outage = 0; outage < 5; outage++) {
        const connections = breakers.length;
        isAway = true;
        breakers.at(-1)!();
        await sleep(50);
        isAway = false;
        await expect.poll(() => breakers.length, { timeout: 10_000 }).toBeGreaterThan(connections);
        await sleep(20 * outage);
      }
    })();
    const disks = await Promise.all(Array.from({ length: 30 }, (_, i) => daemon.attach(`image-${i}`)));
    const fronts = await Promise.all(disks.map(({ domid }) => host.connectGuest(domid)));
    await outages;
    const reads = await Promise.all(fronts.map((front) => front.read(0, 4096)));
    for (const [i, read] of reads.entries()) {
      expect(Buffer.from(read).equals(disks[i].data.subarray(0, 4096))).toBe(true);
      expect(await host.store.read(`/local/domain/0/backend/qdisk/${disks[i].domid}/51712/state`)).toBe('4');
    }
    expect(daemon.lines.filter(({ msg }) => msg === 'Closing' || msg === 'Closed')).toEqual([]);
    await Promise.all(fronts.map((front) => front.close()));
    daemon.stop();
    expect(await ended).toBe(0);
  });

  it('ends with 69 when the connection cannot be made again', async () => {
    const provider = host.host.provider(0);
    const open = XenstoreClient.open;
    const spy = vi
      .spyOn(XenstoreClient, 'open')
      .mockImplementation((transport) => open.call(XenstoreClient, transport));
    const breakers: (() => void)[] = [];
    const connect = provider.connectXenstore.bind(provider);
    provider.connectXenstore = async (options) => breakable(await connect(options), breakers);
    const ended = daemon.start({ 'control-socket': false }, provider);
    await daemon.says('ready');
    spy.mockRestore();
    breakers.pop()!();
    expect(await ended).toBe(69);
    await daemon.says('xenstored went away');
  });

  it('can be stopped', async () => {
    const metrics = host.path('metrics');
    const ended = daemon.start({ 'control-socket': false, metrics });
    await daemon.says('ready');
    expect((await Scrape.from(metrics)).value('xen_blockd_xenstore_connected')).toBe(1);
    await host.host.close();
    await daemon.says('lost the connection to xenstored');
    expect((await Scrape.from(metrics)).value('xen_blockd_xenstore_connected')).toBe(0);
    daemon.stop();
    expect(await ended).toBe(0);
  });
});
