import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { testProvider } from '@xenpv/xen-sys/testing';
import { XenstoreClient } from '@xenpv/xenstore';
import { describe, expect, it } from 'vitest';
import { EmulatedHost } from '../host.js';
import { findFailingSeed } from './find-failing-seed.js';

/** A guest that tells the backend to look before it knows that there is anything to see: what the backend sees. */
async function hastyGuest(host: EmulatedHost): Promise<string | undefined> {
  const guest = await host.createDomain({ name: 'guest', memoryMiB: 1 });
  const [theirs, ours] = [guest.provider.openEventChannels(), host.provider().openEventChannels()];
  const [front, back] = await Promise.all(
    [guest.provider, host.provider()].map(async (xen) => XenstoreClient.open(await xen.connectXenstore())),
  );
  const remote = ours.bindUnbound(guest.domid);
  const port = theirs.bindInterdomain(0, remote);
  const seen = new Promise<string | undefined>((resolve) => {
    ours.listen(() => resolve(back.tryRead(`/local/domain/${guest.domid}/data/ring`)));
  });
  const written = front.write('data/ring', 'here');
  theirs.notify(port);
  const result = await seen;
  await written;
  await Promise.all([front.close(), back.close()]);
  return result;
}

async function outcomeOf(seed: number) {
  await using host = await EmulatedHost.create({ seed });
  return { seen: await hastyGuest(host), trace: host.trace };
}

async function wellFor(seed: number): Promise<void> {
  expect((await outcomeOf(seed)).seen).toBe('here');
}

for (const seed of [0, 7, -1]) {
  testProvider(
    `emulator, with seed ${seed},`,
    async () => {
      const host = await EmulatedHost.create({ seed });
      const guest = await host.createDomain({ name: 'guest', memoryMiB: 1 });
      return {
        backend: { domid: 0, provider: host.provider() },
        frontend: { domid: guest.domid, provider: guest.provider },
        close: () => host.close(),
      };
    },
    { describe, it },
  );
}

describe('a race', () => {
  it('is found by trying seeds, and is there again with the same seed', async () => {
    const found = await findFailingSeed(wellFor, { count: 200 });
    expect(found).toMatchObject({ seed: expect.any(Number), error: expect.any(Error) });
    const { seed } = found!;
    const again = await Promise.all([seed, seed, seed].map(outcomeOf));
    for (const { seen, trace } of again) {
      expect(seen).toBe(undefined);
      expect(trace).toEqual(again[0].trace);
    }
    expect(again[0].trace).toContain('domain 0 handle 0 wakes');
  });

  it('is not there with every seed, nor where it was mended', async () => {
    const outcomes = await Promise.all(Array.from({ length: 40 }, (_, seed) => outcomeOf(seed)));
    expect(new Set(outcomes.map(({ seen }) => seen))).toEqual(new Set(['here', undefined]));
    const patient = async (seed: number) => {
      await using host = await EmulatedHost.create({ seed });
      const client = XenstoreClient.open(await host.provider().connectXenstore());
      await client.write('/ring', 'here');
      expect(await client.read('/ring')).toBe('here');
      await client.close();
    };
    expect(await findFailingSeed(patient, { count: 20, first: 5 })).toBe(undefined);
  });
});

describe('a host with a seed', () => {
  it('attaches and detaches disks, whatever the seed', async () => {
    const attach = async (seed: number) => {
      await using host = await EmulatedHost.create({ seed });
      const guest = await host.createDomain({ name: 'guest', memoryMiB: 1 });
      await host.toolstack.attachDisk(guest.domid, { vdev: 'xvda', target: '/images/a.img' });
      expect(await host.toolstack.disks(guest.domid)).toEqual([51712]);
    };
    expect(await findFailingSeed(attach, { count: 10 })).toBe(undefined);
  });

  it('has one thread, and no folder', async () => {
    await using host = await EmulatedHost.create({ seed: 1 });
    const worker = new Worker(fileURLToPath(new URL('../testing/open-table.mjs', import.meta.url)), {
      workerData: host.provider().share(),
    });
    const [error] = await once(worker, 'error');
    expect(error).toMatchObject({ code: 'EOPNOTSUPP' });
    expect(() => host.provider().openEventChannels().wait(1)).toThrow(/on the event loop only; use listen/);
    await expect(EmulatedHost.create({ seed: 1, directory: '/nowhere' })).rejects.toThrow(
      /leave out the folder \/nowhere/,
    );
    await expect(EmulatedHost.create({ seed: 0.5 })).rejects.toThrow(/seed 0.5 is no whole number/);
  });

  it('tells first of any of the ports that have fired', async () => {
    const firstOf = async (seed: number) => {
      await using host = await EmulatedHost.create({ seed });
      const ours = host.provider().openEventChannels();
      const guest = await host.createDomain({ name: 'guest', memoryMiB: 1 });
      const theirs = guest.provider.openEventChannels();
      for (let i = 0; i < 3; i++) theirs.notify(theirs.bindInterdomain(0, ours.bindUnbound(guest.domid)));
      const ports = new Uint32Array(8);
      expect(ours.pending(ports)).toBe(3);
      expect([...ports.subarray(0, 3)].sort()).toEqual([1, 2, 3]);
      return ports[0];
    };
    const firsts = await Promise.all(Array.from({ length: 40 }, (_, seed) => firstOf(seed)));
    expect(new Set(firsts)).toEqual(new Set([1, 2, 3]));
    expect(await firstOf(3)).toBe(firsts[3]);
  });

  it('tells nothing of its order without one', async () => {
    await using host = await EmulatedHost.create();
    await hastyGuest(host);
    expect(host.trace).toEqual([]);
  });
});
