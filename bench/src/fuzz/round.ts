import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { type BlockImage, type EngineFallback, memoryImage, openFileImage } from '@xenpv/blockdev';
import { EmulatedHost } from '@xenpv/emulator';
import {
  type PlaneFailedEvent,
  type PlaneRestedEvent,
  type RingOverlookedEvent,
  XenBlockBackend,
} from '@xenpv/xen-block';
import { XenstoreClient } from '@xenpv/xenstore';
import type { FuzzGuestMessage, FuzzGuestStart } from '../fuzz-guest.js';
import { OddImage } from './odd-image.js';
import { Random } from './random.js';
import type { Setup } from './setup.js';

const MIB = 2 ** 20;
const DISK_PAGES = 2048;
const PAGE = 4096;
/** With the processor in others' hands an answer may take its time. */
const PATIENCE_SECONDS = 20;
const PERSISTENT = 'persistent';
const UNLIMITED = { burst: Number.POSITIVE_INFINITY, perSecond: Number.POSITIVE_INFINITY };

export interface RoundResult {
  readonly answered: number;
  readonly reconnections: number;
  /** How often a ring was detached and attached again. */
  readonly moves: number;
  /** How often it was checked that nothing is left to do that nobody will be woken for. */
  readonly checks: number;
  readonly seconds: number;
}

/** Rejects with what went wrong: a wrong answer, a ring that does not go on, a rule that does not hold. */
export async function runRound(setup: Setup, onProgress: (answered: number) => void): Promise<RoundResult> {
  const began = performance.now();
  const folder = mkdtempSync(join(tmpdir(), 'xen-blockd-fuzz-'));
  const burners = Array.from({ length: setup.burners }, () => new Worker('for (;;);', { eval: true }));
  const watch = new PlaneWatch();
  try {
    const counts = await serve(setup, folder, watch, onProgress);
    return { ...counts, checks: watch.checks, seconds: (performance.now() - began) / 1000 };
  } finally {
    watch[Symbol.dispose]();
    await Promise.all(burners.map((burner) => burner.terminate()));
    rmSync(folder, { recursive: true });
  }
}

async function serve(setup: Setup, folder: string, watch: PlaneWatch, onProgress: (answered: number) => void) {
  const xen = await EmulatedHost.create();
  const store = XenstoreClient.open(xen.xenstored.connect(0));
  const backend = await XenBlockBackend.start({
    provider: xen.provider(0),
    store,
    openImage: async ({ target }) => openImage(setup, join(folder, target)),
    threads: setup.threads,
    memoryBytes: setup.memoryMiB * MIB,
    dataPath: setup.transfer,
    pollMicroseconds: setup.pollMicroseconds,
    // As many reconnections as there can be.
    guestPaces: { looks: UNLIMITED, steps: UNLIMITED },
    limits: { maxQueues: 4, maxIndirectSegments: setup.maxIndirectSegments },
    ...(setup.transfer === PERSISTENT ? { persistentPages: setup.persistentPages } : {}),
  });
  const domain = await xen.createDomain({ name: 'guest', memoryMiB: 512 });
  await xen.toolstack.attachDisk(domain.domid, { vdev: 'xvda', target: 'main.img' });
  if (setup.churn) await xen.toolstack.attachDisk(domain.domid, { vdev: 'xvdb', target: 'other.img' });
  const workerData: FuzzGuestStart = {
    data: domain.share().data,
    setup,
    diskPages: DISK_PAGES,
    patienceSeconds: PATIENCE_SECONDS,
  };
  const guest = new Worker(guestProgram(), { workerData });
  try {
    const done = listen(guest, onProgress);
    const ended = new AbortController();
    try {
      const moving = setup.moves ? moveRings(backend, setup, ended.signal) : 0;
      const counts = await Promise.race([done, watch.broken]);
      ended.abort();
      return { ...counts, moves: await moving };
    } finally {
      ended.abort();
    }
  } finally {
    await guest.terminate();
    // After a failure the rings may have requests that never end.
    if (watch.failed) process.exitCode = 1;
    else await closeAll(backend, store, xen);
  }
}

/** Moves a ring of the first disk every few milliseconds; says how often. What fails there closes the disk. */
async function moveRings(backend: XenBlockBackend, { seed, odd }: Setup, signal: AbortSignal): Promise<number> {
  const random = new Random(seed);
  const hosts = odd ? backend.hosts.slice(0, 1) : backend.hosts;
  let moves = 0;
  while (!signal.aborted) {
    await sleep(random.from(1, 30));
    const [device] = backend.devices;
    const queues = device?.negotiated?.rings.length ?? 0;
    // While the guest closes its disk there is nothing to move.
    if (queues === 0 || signal.aborted) continue;
    await device.moveQueue(random.below(queues), random.pick(hosts)).catch(() => {});
    moves++;
  }
  return moves;
}

async function closeAll(backend: XenBlockBackend, store: XenstoreClient, xen: EmulatedHost): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, PATIENCE_SECONDS * 1000);
  });
  await Promise.race([backend.close(), late]);
  clearTimeout(timer);
  await store.close();
  await xen.close();
}

function guestProgram(): URL {
  return new URL('./fuzz-guest.js', import.meta.url);
}

async function openImage(setup: Setup, path: string): Promise<BlockImage> {
  const image = await openInner(setup, path);
  return setup.odd ? new OddImage(image, setup.seed) : image;
}

function openInner({ engine, direct }: Setup, path: string): Promise<BlockImage> | BlockImage {
  if (engine === 'memory') return memoryImage({ size: DISK_PAGES * PAGE });
  writeFileSync(path, '', { flag: 'a' });
  truncateSync(path, DISK_PAGES * PAGE);
  // io_uring where it works; the log says where it does not.
  return openFileImage(path, { engine: engine === 'io_uring' ? 'auto' : engine, direct });
}

function listen(
  guest: Worker,
  onProgress: (answered: number) => void,
): Promise<{ readonly answered: number; readonly reconnections: number }> {
  return new Promise((resolve, reject) => {
    guest.on('error', reject);
    guest.on('message', (message: FuzzGuestMessage) => {
      if ('failed' in message) reject(new Error(message.failed));
      else if ('stalled' in message) reject(new Error(`a ring does not go on: ${JSON.stringify(message.stalled)}`));
      else if ('done' in message) resolve({ answered: message.answered, reconnections: message.reconnections });
      else onProgress(message.answered);
    });
  });
}

/** Looks at the data planes of this process after each of their runs, and hears what they say of themselves. */
class PlaneWatch implements Disposable {
  checks = 0;
  failed = false;
  /** Never resolves; rejects with the first rule that does not hold. */
  readonly broken: Promise<never>;
  readonly #listeners: Record<string, (event: never) => void>;

  constructor() {
    let reject: (error: Error) => void = () => {};
    this.broken = new Promise<never>((_, no) => {
      reject = no;
    });
    this.broken.catch(() => {});
    const fail = (text: string) => {
      this.failed = true;
      reject(new Error(text));
    };
    this.#listeners = {
      'blockdev:engine:fallback': ({ reason }: EngineFallback) => console.log(`  no io_uring: ${reason}`),
      'xen-block:plane:rested': (event: PlaneRestedEvent) => {
        this.checks++;
        const broken = event.broken();
        if (broken !== undefined) fail(`a data plane rests, and ${broken}`);
      },
      'xen-block:plane:failed': ({ ring, error }: PlaneFailedEvent) => {
        fail(`an exception in a data plane, ring ${ring}: ${error instanceof Error ? error.stack : error}`);
      },
      'xen-block:ring:overlooked': (event: RingOverlookedEvent) => {
        fail(`nobody looked at a ring: ${JSON.stringify(event)}`);
      },
    };
    for (const [name, listener] of Object.entries(this.#listeners)) subscribe(name, listener as (e: unknown) => void);
  }

  [Symbol.dispose](): void {
    for (const [name, listener] of Object.entries(this.#listeners)) unsubscribe(name, listener as (e: unknown) => void);
  }
}
