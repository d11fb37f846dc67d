import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { mkdtempSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BlockImage, openFileImage } from '@xenpv/blockdev';
import { needs } from '@xenpv/test-support';
import { afterEach, beforeEach, expect, vi } from 'vitest';
import type { ImageAwaitedEvent, ImageWaitEndedEvent } from '../diagnostics.js';
import { type TestGuest, TestHost } from '../testing/host.js';
import { openRawImage } from './raw-image.js';

const MIB = 1 << 20;
const SOON = { timeout: 10_000 };

let folder: string;
let path: string;
let host: TestHost;
let guest: TestGuest;
let theirs: BlockImage;
const told: (ImageAwaitedEvent | ImageWaitEndedEvent)[] = [];
const tell = (event: unknown) => void told.push(event as ImageAwaitedEvent);

/** The guest is on its way from another host, which has its image. */
beforeEach(async () => {
  told.length = 0;
  for (const name of ['awaited', 'wait-ended']) subscribe(`xen-block:image:${name}`, tell);
  folder = mkdtempSync(join(tmpdir(), 'xen-block-'));
  path = join(folder, 'image');
  writeFileSync(path, Buffer.alloc(MIB, 1));
  theirs = await openFileImage(path, { lockFor: { owner: 'another host', name: 'its disk' } });
  host = await TestHost.start({ openImage: openRawImage });
  guest = host.guestOf(await host.xen.createDomain({ name: 'guest--incoming', memoryMiB: 128 }));
});
afterEach(async () => {
  for (const name of ['awaited', 'wait-ended']) unsubscribe(`xen-block:image:${name}`, tell);
  await host[Symbol.asyncDispose]();
  await theirs.close();
  rmSync(folder, { recursive: true });
});

/** The guest connects, and is told to wait. */
async function waits(): Promise<ReturnType<TestGuest['reconnect']>[]> {
  const backend = await guest.attach({ target: path });
  await vi.waitFor(async () => expect(await host.store.read(`${backend}/state`)).toBe('2'), SOON);
  await host.store.write(`/local/domain/${guest.domid}/name`, 'guest');
  const connecting = guest.reconnect();
  connecting.catch(() => {});
  await vi.waitFor(() => expect(host.device.held).toMatchObject({ reason: expect.stringContaining('its disk') }), SOON);
  return [connecting];
}

const { it } = needs('Linux');

it('a disk of a guest on its way has no image open, and gets it when the other host lets go', async () => {
  const [connecting] = await waits();
  expect(host.device.image).toBeUndefined();
  expect(host.device.geometry?.sectors).toBe(MIB / 512);
  // What others ask of the disk does not wait for that.
  await host.device.refresh();
  await host.device.setPaused(true);
  await host.device.setPaused(false);
  await theirs.close();
  const disk = await connecting;
  expect((await disk.read(0, 512))[0]).toBe(1);
  expect(host.device.held).toBeUndefined();
  expect(told).toMatchObject([{ reason: expect.stringContaining('in use') }, { by: 'taken' }]);
  await disk.close();
});

it('takes an image that the other host has made larger', async () => {
  const [connecting] = await waits();
  truncateSync(path, 2 * MIB);
  await theirs.close();
  const disk = await connecting;
  expect(disk.size).toBe(2 * MIB);
  await disk.close();
});

it.each([
  ['is shorter', () => truncateSync(path, MIB / 2), () => truncateSync(path, MIB)],
  [
    'is another one',
    () => {
      renameSync(path, `${path}.kept`);
      writeFileSync(path, Buffer.alloc(MIB));
    },
    () => renameSync(`${path}.kept`, path),
  ],
])('does not serve an image that %s by then, and goes on when that is mended', async (_what, spoil, mend) => {
  const [connecting] = await waits();
  const { attempts = 0 } = host.device.held ?? {};
  spoil();
  // The try that is under way may have the file that was there before.
  await vi.waitFor(() => expect(host.device.held?.attempts).toBeGreaterThan(attempts + 1), SOON);
  await theirs.close();
  const changed = 'when the disk was attached for a guest on its way here, it was';
  await vi.waitFor(() => expect(host.device.held?.reason).toContain(changed), SOON);
  mend();
  const disk = await connecting;
  expect((await disk.read(0, 512))[0]).toBe(1);
  await disk.close();
});

it('ends its wait with the guest', async () => {
  await waits();
  await guest.destroy();
  await vi.waitFor(() => expect([...host.backend.devices]).toEqual([]), SOON);
  expect(told.at(-1)).toMatchObject({ by: 'given-up' });
  expect(await theirs.refresh()).toBe(MIB);
});

it('is a disk like any other once its guest has connected, for the next process too', async () => {
  await theirs.close();
  const disk = await guest.connect({}, { target: path });
  expect(await host.store.read(`/local/domain/0/backend/qdisk/${guest.domid}/51712/incoming`)).toBe('0');
  await host.backend.close();
  await host.startBackend();
  await vi.waitFor(() => expect(host.device.negotiated).toBeDefined(), SOON);
  expect(host.device.config?.incoming).toBe(false);
  expect((await disk.read(0, 512))[0]).toBe(1);
  await disk.close();
});

it('tells of an image that is not there while the guest can stay where it is', async () => {
  const backend = await guest.attach({ target: `${path}.away` });
  await vi.waitFor(async () => expect(await host.store.read(`${backend}/state`)).toMatch(/[56]/), SOON);
});
