/** A guest's thread for the fuzzer: connects its disks, sends requests of all kinds, and checks every answer. */
import { parentPort, workerData } from 'node:worker_threads';
import { Blkfront } from '@xenpv/blkfront';
import { rawQueue } from '@xenpv/blkfront/testing';
import { attachProvider } from '@xenpv/emulator';
import { XenstoreClient } from '@xenpv/xenstore';
import { DiskModel } from './fuzz/model.js';
import { Pages } from './fuzz/pages.js';
import { QueueLoad, type StalledRing } from './fuzz/queue-load.js';
import { Random } from './fuzz/random.js';
import { RequestFactory } from './fuzz/requests.js';
import type { Setup } from './fuzz/setup.js';

/** The thread's workerData. */
export interface FuzzGuestStart {
  /** `share()` of the guest's provider, its data. */
  readonly data: unknown;
  readonly setup: Setup;
  readonly diskPages: number;
  /** How old a request becomes before its ring counts as dead. */
  readonly patienceSeconds: number;
}

export type FuzzGuestMessage =
  | { readonly answered: number; readonly reconnections: number }
  | { readonly stalled: StalledRing }
  | { readonly failed: string }
  | { readonly done: true; readonly answered: number; readonly reconnections: number };

const PROGRESS_MS = 500;
const CHURN_REQUESTS = 200;
const { data, setup, diskPages, patienceSeconds } = workerData as FuzzGuestStart;
const random = new Random(setup.seed ^ 0x5eed);
const provider = await attachProvider(data);
const store = XenstoreClient.open(await provider.connectXenstore());

function tell(message: FuzzGuestMessage): void {
  parentPort!.postMessage(message);
}

/** Connects a disk and begins to load each of its queues. */
async function connect(vdev: string, model: DiskModel, requests: number) {
  const { queues, ringPageOrder, abi, maxIndirectSegments, transfer } = setup;
  const pages = Math.max(600, 3 * maxIndirectSegments);
  const options = { queues, ringPageOrder, abi, maxIndirectSegments, persistent: transfer === 'persistent' };
  const disk = await Blkfront.connect({ provider, store, vdev, ...options, poolPages: pages + 64 });
  const loads = Array.from({ length: disk.queues }, (_, queue) => {
    const raw = rawQueue(disk, queue);
    const factory = new RequestFactory({
      random,
      model,
      pages: new Pages(raw, pages),
      abi: disk.abi,
      maxIndirectSegments,
      odd: setup.odd,
    });
    return new QueueLoad({
      raw,
      queue,
      random,
      factory,
      depth: setup.depth,
      requests: Math.ceil(requests / disk.queues),
    });
  });
  return { disk, loads };
}

let finished = false;
let reconnections = 0;

/** Another disk, closed each time while requests are in flight. */
async function churn(): Promise<void> {
  while (!finished) {
    const { disk, loads } = await connect('xvdb', new DiskModel(diskPages, 'unknown'), 1e9);
    let closing = false;
    const failed = (error: Error) => closing || tell({ failed: `the other disk: ${error.stack}` });
    for (const { done } of loads) done.catch(failed);
    while (!finished && loads.some(({ answered }) => answered < CHURN_REQUESTS)) {
      await new Promise((resolve) => setTimeout(resolve, 5));
      watch(loads);
    }
    closing = true;
    await disk.close();
    reconnections++;
  }
}

function watch(loads: readonly QueueLoad[]): void {
  for (const load of loads) {
    const stalled = load.stalled(patienceSeconds);
    if (stalled) tell({ stalled });
  }
}

async function main(): Promise<void> {
  const { disk, loads } = await connect('xvda', new DiskModel(diskPages, 'zeroes'), setup.requests);
  const answered = () => loads.reduce((sum, load) => sum + load.answered, 0);
  const churning = setup.churn ? churn() : undefined;
  churning?.catch((error) => tell({ failed: `the other disk: ${error.stack}` }));
  const timer = setInterval(() => {
    watch(loads);
    tell({ answered: answered(), reconnections });
  }, PROGRESS_MS);
  await Promise.all(loads.map((load) => load.done));
  finished = true;
  await churning;
  clearInterval(timer);
  // An answer too many would break it.
  await disk.read(0, 4096);
  await disk.close();
  await store.close();
  tell({ done: true, answered: answered(), reconnections });
}

main().catch((error) => tell({ failed: (error as Error).stack ?? String(error) }));
