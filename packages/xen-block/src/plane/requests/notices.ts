import type { XenBlockError } from '../../errors.js';
import type { BlockRing } from '../rings/ring.js';
import type { StorageFailure } from '../rings/ring-options.js';
import { BAD_REQUESTS, type BadRequest } from './bad-request.js';

const INTERVAL_MS = 1000;

/** Errors of the storage of one ring. */
interface StorageErrors {
  /** Not told yet. */
  count: number;
  /** Milliseconds on the performance clock. */
  toldAt: number;
}

/** Refused requests of one ring, by reason. */
interface Refusals {
  /** Not told yet. */
  readonly counts: Uint32Array;
  /** Milliseconds on the performance clock. */
  readonly toldAt: Float64Array;
}

/**
 * What a data plane tells others: a ring's listener, and those that wait for a ring to be idle. They can only go on when
 * the event loop has its turn, which must then not be put off.
 */
export class Notices {
  #needsEventLoop = false;
  /** By ring index. */
  readonly #refusals: Refusals[] = [];
  readonly #storageErrors: StorageErrors[] = [];

  open(ring: BlockRing): void {
    this.#refusals[ring.index] = {
      counts: new Uint32Array(BAD_REQUESTS),
      toldAt: new Float64Array(BAD_REQUESTS).fill(-INTERVAL_MS),
    };
    this.#storageErrors[ring.index] = { count: 0, toldAt: -INTERVAL_MS };
  }

  /** Whether something was told since this was last asked. */
  takeNeedsEventLoop(): boolean {
    const needed = this.#needsEventLoop;
    this.#needsEventLoop = false;
    return needed;
  }

  /** A refused request. Each reason is told at most once a second: a guest can send millions. */
  badRequest(ring: BlockRing, reason: BadRequest): void {
    this.#needsEventLoop = true;
    const { counts, toldAt } = this.#refusals[ring.index];
    counts[reason]++;
    const now = performance.now();
    if (now - toldAt[reason] < INTERVAL_MS) return;
    toldAt[reason] = now;
    ring.listener.badRequest(reason, counts[reason]);
    counts[reason] = 0;
  }

  /** The storage failed a request. Told at most once a second: failing storage fails all that comes. */
  storageError(ring: BlockRing, failure: StorageFailure): void {
    this.#needsEventLoop = true;
    const errors = this.#storageErrors[ring.index];
    errors.count++;
    const now = performance.now();
    if (now - errors.toldAt < INTERVAL_MS) return;
    errors.toldAt = now;
    ring.listener.storageError(failure, errors.count);
    errors.count = 0;
  }

  stopped(ring: BlockRing, failure: StorageFailure): void {
    this.#needsEventLoop = true;
    ring.listener.stopped(failure);
  }

  unsupported(ring: BlockRing, operation: number): void {
    this.#needsEventLoop = true;
    ring.listener.unsupported(operation);
  }

  broken(ring: BlockRing, error: XenBlockError): void {
    this.#needsEventLoop = true;
    ring.listener.broken(error);
  }

  /** Nothing of the ring is in flight any more. */
  idle(ring: BlockRing): void {
    if (ring.tellIdle()) this.#needsEventLoop = true;
  }
}
