import { BlkifOp, BlkifStatus, SECTOR_SIZE } from '@xenpv/blkif';
import { type EventChannels, unlessAborted } from '@xenpv/xen-sys';
import { BlkfrontError } from '../errors.js';
import type { FrontendQueue } from '../rings/queue.js';
import { type Latency, LatencyHistogram } from './latency.js';

/** What to ask of a disk, as fast as it goes. */
export interface LoadOptions {
  /** `write` overwrites the disk with whatever the granted pages hold. */
  readonly operation: 'read' | 'write';
  /** Bytes of each request: a multiple of the sector size, at most what one request can carry. */
  readonly blockSize: number;
  /** Requests kept in flight on each queue. Default: as many as the ring has slots. */
  readonly depth?: number | undefined;
  /** How many requests. */
  readonly requests: number;
  /** Random blocks instead of one after the other. */
  readonly random?: boolean | undefined;
  /**
   * Whether this thread may block: it must be one of its own then, with the backend on another. It sleeps in the
   * event channel where the provider can do that, and spins where not. Default: idle turns go to the event loop.
   */
  readonly blocking?: boolean | undefined;
  /** Whether each request is timed, which costs a tenth of a microsecond. */
  readonly latency?: boolean | undefined;
  /** Looks at the ring this often in vain before it sleeps. Default 2000. */
  readonly spins?: number | undefined;
  /**
   * Aborting rejects with its reason, except while the thread is blocked. What was sent by then the backend may carry out
   * all the same; its answers count for nobody.
   */
  readonly signal?: AbortSignal | undefined;
}

/** What a load came to. */
export interface LoadResult {
  /** All that were answered, those with errors too: as many as the options asked for. */
  readonly requests: number;
  /** Answered with something else than OKAY. */
  readonly errors: number;
  /** Of all these requests, those with errors too. */
  readonly bytes: number;
  /** From before the first request until after the last answer. */
  readonly seconds: number;
  /** Times that this side slept until an event came. */
  readonly sleeps: number;
  /** From the turn in which a request was started to the one in which its answer was seen; when it was asked for. */
  readonly latency?: Latency | undefined;
}

/** Event channels that a thread can block in, as the emulator's. */
interface BlockingEventChannels extends EventChannels {
  wait(timeoutMs: number): boolean;
}

const DEFAULT_SPINS = 2000;
const WAIT_MS = 100;

/**
 * Keeps requests in flight until `options.requests` were answered, without a promise or an object per request. The
 * data stays in the granted pages: what is read is not looked at, what is written is whatever they hold. The queues
 * must be idle, and are as before afterwards. Rejects with ERR_BACKEND when the backend breaks the protocol.
 */
export async function runLoad(
  queues: readonly FrontendQueue[],
  events: EventChannels,
  diskSize: number,
  options: LoadOptions,
): Promise<LoadResult> {
  const load = new Load(queues, diskSize, options);
  const handlers = queues.map((queue) => queue.onResponse);
  for (const [index, queue] of queues.entries()) queue.onResponse = load.handler(index);
  try {
    const begin = performance.now();
    while (!load.done) {
      load.run();
      if (load.done) break;
      if (options.blocking) block(queues, events);
      else await unlessAborted(options.signal, () => load.response());
    }
    return load.result((performance.now() - begin) / 1000);
  } finally {
    for (const [index, queue] of queues.entries()) {
      // Nothing more comes, but the next response has to raise an event again.
      queue.drain();
      queue.onResponse = handlers[index];
    }
  }
}

class Load {
  readonly #queues: readonly FrontendQueue[];
  readonly #operation: number;
  readonly #blocks: number;
  readonly #sectors: number;
  readonly #options: LoadOptions;
  readonly #spins: number;
  readonly #histogram = new LatencyHistogram();
  /** By queue, of each slot. */
  readonly #startedAt: readonly Float64Array[];
  #block = 0;
  #seed = 1;
  #started = 0;
  #answered = 0;
  #errors = 0;
  #sleeps = 0;
  #awaken: (() => void) | undefined;

  constructor(queues: readonly FrontendQueue[], diskSize: number, options: LoadOptions) {
    this.#queues = queues;
    this.#options = options;
    this.#operation = BlkifOp[options.operation];
    this.#blocks = Math.floor(diskSize / options.blockSize);
    this.#sectors = options.blockSize / SECTOR_SIZE;
    this.#spins = options.spins ?? DEFAULT_SPINS;
    this.#startedAt = queues.map((queue) => new Float64Array(queue.ring.size));
  }

  get done(): boolean {
    return this.#answered === this.#options.requests;
  }

  /** What a queue tells its responses to. */
  handler(queue: number): (slot: number, status: number) => void {
    const onResponse = this.#onResponse;
    if (!this.#options.latency) return onResponse;
    const started = this.#startedAt[queue];
    return (slot, status) => {
      this.#histogram.add((performance.now() - started[slot]) * 1000);
      onResponse(slot, status);
    };
  }

  readonly #onResponse = (_slot: number, status: number): void => {
    if (status !== BlkifStatus.okay) this.#errors++;
    this.#answered++;
    this.#awaken?.();
  };

  /** Until all is done, or nothing happens and the backend has been asked for events. */
  run(): void {
    for (let vain = 0; !this.done; ) {
      for (let i = 0; i < this.#queues.length; i++) this.#fill(this.#queues[i], this.#startedAt[i]);
      if (this.#poll() > 0) vain = 0;
      else if (++vain > this.#spins) {
        if (this.#sleep()) return;
        vain = 0;
      }
    }
  }

  /** Resolves with the next response that the event loop brings. */
  response(): Promise<void> {
    return new Promise((resolve) => {
      this.#awaken = () => {
        this.#awaken = undefined;
        resolve();
      };
    });
  }

  result(seconds: number): LoadResult {
    const bytes = this.#answered * this.#options.blockSize;
    const result = { requests: this.#answered, errors: this.#errors, bytes, seconds, sleeps: this.#sleeps };
    return this.#options.latency ? { ...result, latency: this.#histogram.read() } : result;
  }

  #fill(queue: FrontendQueue, startedAt: Float64Array): void {
    const depth = this.#options.depth ?? queue.ring.size;
    let fresh = false;
    while (this.#started < this.#options.requests && queue.inFlight < depth) {
      const slot = queue.start(this.#operation, this.#nextBlock() * this.#sectors, this.#sectors);
      if (slot < 0) break;
      if (this.#options.latency) startedAt[slot] = performance.now();
      this.#started++;
      fresh = true;
    }
    if (fresh) queue.push();
  }

  #poll(): number {
    let taken = 0;
    for (const queue of this.#queues) {
      const count = queue.poll();
      if (count < 0) throw new BlkfrontError('ERR_BACKEND', 'ring', `the backend is broken: ${queue.broken}`);
      taken += count;
    }
    return taken;
  }

  /** True when an event is sure to come. */
  #sleep(): boolean {
    for (const queue of this.#queues) if (queue.ring.finalCheck()) return false;
    this.#sleeps++;
    return true;
  }

  #nextBlock(): number {
    if (!this.#options.random) {
      const block = this.#block;
      this.#block = block + 1 === this.#blocks ? 0 : block + 1;
      return block;
    }
    // A linear congruential generator: the same blocks in every run.
    this.#seed = (Math.imul(this.#seed, 1664525) + 1013904223) | 0;
    return Math.floor(((this.#seed >>> 0) / 2 ** 32) * this.#blocks);
  }
}

const ports = new Uint32Array(64);

function block(queues: readonly FrontendQueue[], events: EventChannels): void {
  if ('wait' in events) (events as BlockingEventChannels).wait(WAIT_MS);
  const count = events.pending(ports);
  if (count > 0) events.unmask(ports, count);
  for (const queue of queues) queue.poll();
}
