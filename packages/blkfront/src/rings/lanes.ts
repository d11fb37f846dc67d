import type { Abi } from '@xenpv/blkif';
import type { EventChannels } from '@xenpv/xen-sys';
import { BlkfrontError } from '../errors.js';
import { finishPiece, type Piece, startPiece } from './call.js';
import type { FrontendPages } from './pages.js';
import type { FrontendQueue } from './queue.js';
import { RawQueue } from './raw.js';

/** A queue with its pages and the pieces of calls that are in it. */
interface Lane {
  readonly queue: FrontendQueue;
  readonly pieces: (Piece | undefined)[];
  readonly raw: RawQueue;
}

/** Spreads pieces of calls over the queues of a disk; what finds no room waits in order. */
export class Lanes {
  /** Why nothing can be asked any more. */
  failure: BlkfrontError | undefined;
  /** Is told when all fails, for who asks the queues themselves. */
  onFail: ((error: BlkfrontError) => void) | undefined;
  readonly #events: EventChannels;
  readonly #lanes: Lane[] = [];
  readonly #backlog: Piece[] = [];
  #next = 0;
  #pumping = false;
  #whenIdle: (() => void) | undefined;

  constructor(events: EventChannels) {
    this.#events = events;
  }

  /** Adds a queue. `shared` are the words of its ring. */
  add(queue: FrontendQueue, abi: Abi, pages: FrontendPages, shared: Int32Array): void {
    const pieces: (Piece | undefined)[] = new Array(queue.ring.size).fill(undefined);
    queue.onResponse = (slot, status) => {
      const piece = pieces[slot];
      if (piece !== undefined) finishPiece(queue, slot, piece, status);
      pieces[slot] = undefined;
    };
    const notify = () => void this.#events.notify(queue.port);
    this.#lanes.push({ queue, pieces, raw: new RawQueue(queue, abi, pages, shared, notify) });
  }

  get queues(): readonly FrontendQueue[] {
    return this.#lanes.map((lane) => lane.queue);
  }

  /** Requests that were sent and not answered. */
  get inFlight(): number {
    return this.#lanes.reduce((sum, lane) => sum + lane.queue.inFlight, 0);
  }

  raw(queue: number): RawQueue {
    return this.#lanes[queue].raw;
  }

  /** Has a piece sent. Those of one turn of the event loop go to the backend together. */
  enqueue(piece: Piece): void {
    piece.call.add();
    this.#backlog.push(piece);
    if (this.#pumping) return;
    this.#pumping = true;
    queueMicrotask(() => {
      this.#pumping = false;
      this.#pump();
    });
  }

  /** Takes the responses of the queues whose ports fired, unmasks the ports, and sends what has room now. */
  readonly onEvents = (ports: Uint32Array, count: number): void => {
    const fired = ports.subarray(0, count);
    for (const { queue } of this.#lanes) {
      if (!fired.includes(queue.port) || queue.drain() >= 0) continue;
      this.failure ??= new BlkfrontError('ERR_BACKEND', 'ring', `the backend is broken: ${queue.broken}`);
    }
    this.#events.unmask(ports, count);
    this.#pump();
  };

  /** Resolves when nothing is in flight or waits, or the signal is aborted. */
  idle(signal: AbortSignal): Promise<void> {
    if (this.failure !== undefined || this.#isIdle) return Promise.resolve();
    return new Promise((resolve) => {
      this.#whenIdle = resolve;
      signal.addEventListener('abort', () => resolve(), { once: true });
    });
  }

  /** Fails all that is in flight or waits. */
  fail(error: BlkfrontError): void {
    for (const piece of this.#backlog.splice(0)) piece.call.settle(error);
    for (const lane of this.#lanes) {
      for (const [slot, piece] of lane.pieces.entries()) {
        piece?.call.settle(error);
        lane.pieces[slot] = undefined;
      }
      lane.raw.fail(error);
    }
    this.onFail?.(error);
    this.#whenIdle?.();
  }

  get #isIdle(): boolean {
    return this.inFlight === 0 && this.#backlog.length === 0;
  }

  #pump(): void {
    if (this.failure !== undefined) {
      this.fail(this.failure);
      return;
    }
    let started = 0;
    while (started < this.#backlog.length && this.#start(this.#backlog[started])) started++;
    if (started > 0) {
      this.#backlog.splice(0, started);
      for (const { queue } of this.#lanes) queue.push();
    }
    if (this.#isIdle) this.#whenIdle?.();
  }

  /** On the next queue that has room. */
  #start(piece: Piece): boolean {
    for (let tried = 0; tried < this.#lanes.length; tried++) {
      const lane = this.#lanes[this.#next];
      this.#next = (this.#next + 1) % this.#lanes.length;
      const slot = startPiece(lane.queue, piece);
      if (slot < 0) continue;
      lane.pieces[slot] = piece;
      return true;
    }
    return false;
  }
}
