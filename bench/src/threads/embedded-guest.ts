/** A guest's thread for the benchmarks: connects disks and loads one of them when it is told to. */
import { parentPort, workerData } from 'node:worker_threads';
import { Blkfront, type BlkfrontOptions, type LoadOptions } from '@xenpv/blkfront';
import { attachProvider } from '@xenpv/emulator';
import { XenstoreClient } from '@xenpv/xenstore';
import { inTurns } from '../program/in-turns.js';

/** The thread's workerData. */
export interface GuestStart {
  /** `share()` of the guest's provider, its data. */
  readonly data: unknown;
}

/** Requests that are kept in flight, each followed by the next. */
export interface StormOptions {
  readonly operation: 'read' | 'write' | 'discard' | 'flush' | 'barrier';
  /** Bytes of each that has any. */
  readonly blockSize: number;
  readonly depth: number;
}

/** A request to the thread; it answers `load` with a LoadResult, the others with true. */
export type GuestAsk =
  | { readonly ask: 'connect'; readonly devids: readonly number[]; readonly options: Partial<BlkfrontOptions> }
  | { readonly ask: 'load'; readonly options: LoadOptions }
  | { readonly ask: 'storm'; readonly options: StormOptions }
  | { readonly ask: 'close' };

const provider = await attachProvider((workerData as GuestStart).data);
const store = XenstoreClient.open(await provider.connectXenstore());
const disks: Blkfront[] = [];

async function answer(message: GuestAsk): Promise<unknown> {
  switch (message.ask) {
    case 'connect':
      await inTurns(message.devids, async (devid) => {
        disks.push(await Blkfront.connect({ provider, store, devid, ...message.options }));
      });
      return true;
    case 'load':
      return disks[0].load(message.options);
    case 'storm':
      // Once the answer is on its way: a guest that moves data is never done, and its thread hears nothing any more.
      setImmediate(storm, disks[0], message.options);
      return true;
    case 'close':
      await Promise.all(disks.map((disk) => disk.close()));
      await store.close();
      return true;
  }
}

/**
 * Asks for more than there is for ever, and does little itself: it sleeps until an answer comes, and leaves the data of
 * reads and writes where it is. What it takes from its neighbours is the backend's time, not the processors'.
 */
function storm(disk: Blkfront, { operation, blockSize, depth }: StormOptions): void {
  if (operation === 'read' || operation === 'write') {
    void disk.load({ operation, blockSize, depth, requests: Number.MAX_SAFE_INTEGER, blocking: true, spins: 1 });
  } else {
    for (let i = 0; i < depth; i++) void stormWithoutData(disk, operation, { blockSize, from: i });
  }
}

async function stormWithoutData(
  disk: Blkfront,
  operation: 'discard' | 'flush' | 'barrier',
  { blockSize, from }: { readonly blockSize: number; readonly from: number },
): Promise<never> {
  const data = new Uint8Array(blockSize);
  const blocks = Math.floor(disk.size / blockSize);
  for (let block = from; ; block = (block + 1) % blocks) {
    const offset = block * blockSize;
    if (operation === 'barrier') await disk.write(offset, data, { mode: 'barrier' });
    else if (operation === 'discard') await disk.discard(offset, blockSize);
    else await disk.flush();
  }
}

parentPort!.on('message', async (message: GuestAsk) => {
  try {
    parentPort!.postMessage({ value: await answer(message) });
    if (message.ask === 'close') parentPort!.close();
  } catch (error) {
    parentPort!.postMessage({ error: (error as Error).message });
  }
});
