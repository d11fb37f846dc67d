import { failedChannel, type PlaneFailedEvent } from '../../diagnostics.js';
import type { XenBlockError } from '../../errors.js';
import type { BlockRing } from '../rings/ring.js';
import type { StorageFailure } from '../rings/ring-options.js';
import { BAD_REQUESTS, type BadRequest } from './bad-request.js';

const INTERVAL_MS = 1000;

/** Events of one kind of one ring. */
interface Counted {
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
 * the event loop has its turn, which must then not be put off. What a listener throws is told, and interrupts nothing.
 */
export class Notices {
  #needsEventLoop = false;
  /** By ring index. */
  readonly #refusals: Refusals[] = [];
  readonly #storageErrors: Counted[] = [];
  readonly #givenUp: Counted[] = [];
  /** Failures that were not told yet, and when one was: milliseconds on the performance clock. */
  #failures = 0;
  #failureToldAt = -INTERVAL_MS;
  #onFailed: () => void = () => {};

  open(ring: BlockRing): void {
    this.#refusals[ring.index] = {
      counts: new Uint32Array(BAD_REQUESTS),
      toldAt: new Float64Array(BAD_REQUESTS).fill(-INTERVAL_MS),
    };
    this.#givenUp[ring.index] = { count: 0, toldAt: -INTERVAL_MS };
    this.#storageErrors[ring.index] = { count: 0, toldAt: -INTERVAL_MS };
  }

  /** What to do after a failure: what it interrupted must be done again. */
  onFailed(listener: () => void): void {
    this.#onFailed = listener;
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
    const count = counts[reason];
    counts[reason] = 0;
    this.#tell(ring, () => ring.listener.badRequest(reason, count));
  }

  /** The storage failed a request. Told at most once a second: failing storage fails all that comes. */
  storageError(ring: BlockRing, failure: StorageFailure): void {
    this.#needsEventLoop = true;
    const errors = this.#storageErrors[ring.index];
    errors.count++;
    const now = performance.now();
    if (now - errors.toldAt < INTERVAL_MS) return;
    errors.toldAt = now;
    const { count } = errors;
    errors.count = 0;
    this.#tell(ring, () => ring.listener.storageError(failure, count));
  }

  /** A request that has killed earlier processes is answered with an error. Told at most once a second. */
  gaveUp(ring: BlockRing, operation: number, sector: number): void {
    this.#needsEventLoop = true;
    const given = this.#givenUp[ring.index];
    given.count++;
    const now = performance.now();
    if (now - given.toldAt < INTERVAL_MS) return;
    given.toldAt = now;
    const { count } = given;
    given.count = 0;
    this.#tell(ring, () => ring.listener.gaveUp({ operation, sector }, count));
  }

  stopped(ring: BlockRing, failure: StorageFailure): void {
    this.#needsEventLoop = true;
    this.#tell(ring, () => ring.listener.stopped(failure));
  }

  unsupported(ring: BlockRing, operation: number): void {
    this.#needsEventLoop = true;
    this.#tell(ring, () => ring.listener.unsupported(operation));
  }

  broken(ring: BlockRing, error: XenBlockError): void {
    this.#needsEventLoop = true;
    this.#tell(ring, () => ring.listener.broken(error));
  }

  /** Nothing of the ring is in flight any more. */
  idle(ring: BlockRing): void {
    if (ring.tellIdle()) this.#needsEventLoop = true;
  }

  /** An exception, where none may be: told at most once a second. `ring` is the one that it was met with, if any. */
  failed(ring: BlockRing | undefined, error: unknown): void {
    this.#needsEventLoop = true;
    this.#failures++;
    this.#onFailed();
    const now = performance.now();
    if (now - this.#failureToldAt < INTERVAL_MS) return;
    this.#failureToldAt = now;
    failedChannel.publish({ ring: ring?.name, error, count: this.#failures } satisfies PlaneFailedEvent);
    this.#failures = 0;
  }

  #tell(ring: BlockRing, tell: () => void): void {
    try {
      tell();
    } catch (error) {
      this.failed(ring, error);
    }
  }
}
