import { randomBytes } from 'node:crypto';
import { rawQueue } from '@xenpv/blkfront/testing';
import { BlkifOp, BlkifStatus, RequestWriter } from '@xenpv/blkif';
import { memoryImage } from '@xenpv/blockdev';
import { type FaultPlan, faultyProvider } from '@xenpv/xen-sys';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { XenBlockBackendOptions } from '../../options.js';
import { type TestGuest, TestHost } from '../../testing/host.js';

const MIB = 1024 * 1024;
const without = ['grantCopy'] as const;
const single = ['grantCopy', 'mapMultiple'] as const;

/** What the host's provider is to be without. */
type Lacking = NonNullable<FaultPlan['lacks']>;

const MODES: [string, Partial<XenBlockBackendOptions>, Lacking | undefined, boolean][] = [
  ['copy', { dataPath: 'copy' }, undefined, false],
  ['map', { dataPath: 'map' }, undefined, false],
  ['persistent', { dataPath: 'persistent' }, undefined, true],
  ['persistent, with room for three pages', { dataPath: 'persistent', persistentPages: 3 }, undefined, true],
  ['persistent, to a frontend that is not', { dataPath: 'persistent' }, undefined, false],
  ['a provider without copy', {}, without, false],
  ['a provider that maps one page at a time', {}, single, false],
];

let host: TestHost;
let guest: TestGuest;

async function start(options: Partial<XenBlockBackendOptions>, provider: Lacking | undefined): Promise<void> {
  host = await TestHost.start(options);
  if (provider) {
    await host.backend.close();
    await host.startBackend({ provider: faultyProvider(host.xen.provider(0), { lacks: provider }) });
  }
  guest = await host.guest();
}

afterEach(() => host[Symbol.asyncDispose]());

describe.each(MODES)('transfer by %s', (_name, options, provider, persistent) => {
  it('moves data both ways, direct and indirect, whole pages and parts', async () => {
    await start(options, provider);
    const image = memoryImage({ size: 4 * MIB });
    host.images.set('disk', () => image);
    const disk = await guest.connect({ persistent, ringPageOrder: 1, maxIndirectSegments: 64 });
    const feature = await host.store.read(`/local/domain/0/backend/qdisk/${guest.domid}/51712/feature-persistent`);
    expect(feature).toBe(options.dataPath === 'persistent' ? '1' : '0');
    const data = randomBytes(4 * MIB);
    await disk.write(0, data);
    expect(Buffer.compare(await disk.read(0, data.length), data)).toBe(0);
    const part = randomBytes(1536);
    await disk.write(512 * 9, part);
    part.copy(data, 512 * 9);
    const parts = await Promise.all([disk.read(512 * 7, 5 * 512), disk.read(512 * 9, 1536), disk.read(512, 3 * MIB)]);
    expect(Buffer.compare(parts[0], data.subarray(512 * 7, 512 * 12))).toBe(0);
    expect(Buffer.compare(parts[1], part)).toBe(0);
    expect(Buffer.compare(parts[2], data.subarray(512, 512 + 3 * MIB))).toBe(0);
    await disk.flush();
    await disk.close();
    await guest.detach();
  });

  it('answers bad references with ERROR and leaves no page mapped', async () => {
    await start(options, provider);
    const disk = await guest.connect({ persistent });
    const raw = rawQueue(disk);
    const page = raw.page();
    for (const [operation, grefs] of [
      [BlkifOp.read, [page.gref, 55_555]],
      [BlkifOp.write, [77_777, page.gref]],
      [BlkifOp.write, [0xffffffff]],
    ] as const) {
      const words = new Int32Array(raw.abi.slotWords);
      const request = new RequestWriter(words, raw.abi);
      request.readWrite(operation, grefs.length, 9, 0, 0);
      for (const [i, gref] of grefs.entries()) request.segment(i, gref, 0, 7);
      expect(await raw.request(words)).toMatchObject({ status: BlkifStatus.error, operation });
    }
    page.release();
    await disk.close();
    await guest.detach();
    await vi.waitFor(() => expect(host.xen.domains[0].usage()).toMatchObject({ mapped: 0, grants: 0, ports: 0 }));
  });
});
