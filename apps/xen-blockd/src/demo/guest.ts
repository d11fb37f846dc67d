/** The thread of a demo guest: a blkfront that reads its whole disk, or lends it to an NBD server. */
import { parentPort, workerData } from 'node:worker_threads';
import { Blkfront } from '@xenpv/blkfront';
import { NbdServer } from '@xenpv/nbd';
import type { XenProvider } from '@xenpv/xen-sys';
import { XenstoreClient } from '@xenpv/xenstore';
import { errorCode } from '../errors.js';
import { listenOnUnixSocket } from '../unix-socket.js';
import { guestNbdDisk } from './guest-disk.js';
import type { GuestCommand, GuestData, GuestMessage } from './guest-messages.js';
import { hashDisk } from './hash.js';

const port = parentPort!;
const data = workerData as GuestData;
const say = (message: GuestMessage) => port.postMessage(message);
const PROGRESS_BYTES = 4 * 1024 * 1024;

try {
  const { attachProvider } = (await import(data.provider.module)) as {
    attachProvider(data: unknown): Promise<XenProvider>;
  };
  await live(await attachProvider(data.provider.data));
} catch (error) {
  const message = error instanceof Error ? error.message : String(error);
  say({ type: 'error', code: errorCode(error) ?? 'ERR_GUEST', message });
} finally {
  port.close();
}

async function live(provider: XenProvider): Promise<void> {
  const store = XenstoreClient.open(await provider.connectXenstore());
  try {
    await useDisk(provider, store);
  } finally {
    await store.close();
  }
}

async function useDisk(provider: XenProvider, store: XenstoreClient): Promise<void> {
  const disk = await Blkfront.connect({
    provider,
    store,
    devid: data.devid,
    abi: data.abi,
    ringPageOrder: data.ringPageOrder,
  });
  try {
    say({ type: 'connected', disk: { size: disk.size, sectorSize: disk.sectorSize, readOnly: disk.readOnly } });
    if (data.nbd === undefined) await readAll(disk);
    else await lend(disk, data.nbd);
    // The toolstack detaches the disk: the backend goes to Closing, and the frontend follows.
    await disk.closed;
  } finally {
    await disk.close();
  }
  say({ type: 'detached' });
}

async function readAll(disk: Blkfront): Promise<void> {
  const began = performance.now();
  let told = 0;
  const sha256 = await hashDisk(disk, (bytes) => {
    if (bytes - told < PROGRESS_BYTES && bytes < disk.size) return;
    told = bytes;
    say({ type: 'progress', bytes });
  });
  say({ type: 'read', sha256, milliseconds: performance.now() - began });
}

async function lend(disk: Blkfront, socket: string): Promise<void> {
  const server = new NbdServer({ disk: guestNbdDisk(disk) });
  await listenOnUnixSocket(server.listener, socket);
  try {
    say({ type: 'nbd-ready' });
    await new Promise<void>((resolve) => port.once('message', (_: GuestCommand) => resolve()));
  } finally {
    await server.close();
  }
  if (!disk.readOnly) await disk.flush();
  say({ type: 'nbd-closed' });
}
