/** The guests of the restart benchmark, all on this thread: each reads a page now and then, and knows its longest read. */
import { setTimeout as sleep } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { Blkfront } from '@xenpv/blkfront';
import { attachProvider } from '@xenpv/emulator';
import { XenstoreClient } from '@xenpv/xenstore';
import { inTurns } from '../program/in-turns.js';

/** The thread's workerData. */
export interface RestartGuests {
  /** `share().data` of each guest's provider. */
  readonly guests: readonly unknown[];
}

/**
 * A request to the thread: `round` begins a round, and is answered with each guest's longest read, in milliseconds, once
 * each has had an answer to a read that began after `served`.
 */
export type RestartAsk = 'round' | 'served';

/** From an answer to the next read. */
const PAUSE_MS = 10;
const PAGE = 4096;

const disks: Blkfront[] = [];
const longest: number[] = [];
/** Which rounds' reads were answered, for each guest. */
const answered: number[] = [];
let epoch = 0;

async function load(disk: Blkfront, index: number): Promise<never> {
  for (;;) {
    const [began, at] = [performance.now(), epoch];
    await disk.read(0, PAGE);
    longest[index] = Math.max(longest[index], performance.now() - began);
    answered[index] = at;
    await sleep(PAUSE_MS);
  }
}

async function roundEnded(): Promise<number[]> {
  while (answered.some((at) => at < epoch)) await sleep(PAUSE_MS);
  return [...longest];
}

await inTurns((workerData as RestartGuests).guests, async (data) => {
  const provider = await attachProvider(data);
  const store = XenstoreClient.open(await provider.connectXenstore());
  disks.push(await Blkfront.connect({ provider, store, vdev: 'xvda', ringPageOrder: 0, poolPages: 32 }));
});
for (const [index, disk] of disks.entries()) {
  longest[index] = 0;
  answered[index] = 0;
  void load(disk, index);
}
parentPort!.postMessage('connected');

parentPort!.on('message', async (ask: RestartAsk) => {
  epoch++;
  if (ask === 'round') longest.fill(0);
  else parentPort!.postMessage(await roundEnded());
});
