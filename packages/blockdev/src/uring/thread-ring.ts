import { type Addon, loadAddon, type Reap, type Start } from '../addon.js';
import { errnoNameOf } from '../errors.js';
import { guardedMemory } from '../queue/buffer.js';

/** Queues whose completions one call collects; more take another call. */
const READY_QUEUES = 256;
const REAP_FIRST = -1;

/** Who gets the completions of a queue of the ring. */
export interface RingMember {
  /** The first `count` entries of the arrays given to `openQueue` are completions. */
  completed(count: number): void;
}

/** What does the work of a ring's queues: io_uring, or threads that each queue has for itself. */
export type RingKind = 'io_uring' | 'threads';

const current: { [kind in RingKind]?: ThreadRing | string } = {};

/** This thread's ring of a kind, made when first asked for, or why there is none. */
export function threadRing(kind: RingKind = 'io_uring'): ThreadRing | string {
  current[kind] ??= openRing(kind);
  return current[kind];
}

function openRing(kind: RingKind): ThreadRing | string {
  // Its event loop is not libuv: the functions that the ring needs of that end the process.
  if (process.versions.bun !== undefined) return `Bun has no event loop that ${kind} could wake`;
  let addon: Addon;
  try {
    addon = loadAddon();
  } catch (error) {
    return `the addon is not there: ${(error as Error).message}`;
  }
  const ring = new ThreadRing(addon, kind);
  return ring.id < 0 ? `${kind} does not work here: ${errnoNameOf(ring.id)}` : ring;
}

/**
 * What all queues of this thread with the same engine use: its io_uring, or what stands for one where threads do the work. One call of the addon starts what a queue has staged, one
 * collects the completions of all queues; the eventfd and the event loop tell of those that nobody has asked for.
 *
 * A listener may throw, push, submit and poll: what it interrupts is delivered by the event loop's next turn, nothing
 * is delivered twice, and no delivery begins inside another one. Memory of a queue is the kernel's from its start to
 * its completion; a thread that ends early is kept by the addon until the kernel is done with it, half a minute at most.
 */
export class ThreadRing {
  readonly addon: Addon;
  readonly kind: RingKind;
  /** Its number in the addon, or a negative errno when it could not be made. */
  readonly id: number;
  /** The eventfd that becomes readable with completions that did not come at once. */
  readonly eventFd: number;
  readonly #reap: Reap;
  readonly #ready: Int32Array;
  readonly #members: (RingMember | undefined)[] = [];
  /** Pairs of `#ready` that are still to be delivered: a listener may throw, or call `poll`. */
  #at = 0;
  #count = 0;
  #delivering = false;
  /** Somebody polled during a delivery, or something completed at once that no signal tells of. */
  #asked = false;
  #scheduled: NodeJS.Immediate | undefined;
  readonly #poll = () => {
    this.poll();
  };
  readonly #pollScheduled = () => {
    this.#scheduled = undefined;
    this.poll();
  };

  constructor(addon: Addon, kind: RingKind) {
    this.addon = addon;
    this.kind = kind;
    const { buffer, at } = guardedMemory(2 * READY_QUEUES * Int32Array.BYTES_PER_ELEMENT);
    this.#ready = new Int32Array(buffer, at, 2 * READY_QUEUES);
    this.id = addon.ringOpen(this.#poll, this.#ready, kind === 'io_uring');
    this.eventFd = this.id < 0 ? -1 : addon.ringEventFd(this.id);
    this.#reap = this.id < 0 ? () => 0 : addon.ringReaper(this.id);
  }

  add(queue: number, member: RingMember): void {
    this.#members[queue] = member;
  }

  remove(queue: number): void {
    this.#members[queue] = undefined;
    this.addon.queueClose(this.id, queue);
  }

  /** Starts the first `count` operations that a queue has staged. */
  submit(start: Start, count: number): void {
    if (start(count, false) !== 0) this.pollSoon();
  }

  /** The same when a `poll` follows in this turn of the event loop. It delivers what has completed where it can. */
  submitPolled(start: Start, count: number): void {
    if (!this.#delivering && this.#at === this.#count) this.#deliverAll(start(count, true));
    // The kernel was told not to signal what it completes within the call: whoever delivers now has to look again.
    else if (start(count, false) !== 0) this.#lookAgain();
  }

  /** Delivers what has completed, of any queue. */
  poll(): void {
    if (this.#delivering) this.#asked = true;
    else this.#deliverAll(REAP_FIRST);
  }

  #lookAgain(): void {
    if (this.#delivering) this.#asked = true;
    else this.pollSoon();
  }

  /** `reaped`: pairs of `#ready` that were written just now, or REAP_FIRST. */
  #deliverAll(reaped: number): void {
    this.#delivering = true;
    if (this.#scheduled) this.#unschedule();
    try {
      this.#deliver();
      for (let count = reaped < 0 ? this.#reap() : reaped; ; count = this.#reap()) {
        this.#at = 0;
        this.#asked = false;
        this.#count = count;
        this.#deliver();
        if (count < READY_QUEUES && !this.#asked) break;
      }
    } finally {
      this.#delivering = false;
      if (this.#at < this.#count || this.#asked) this.pollSoon();
    }
  }

  #unschedule(): void {
    clearImmediate(this.#scheduled);
    this.#scheduled = undefined;
  }

  /** Has the event loop deliver what has completed and nothing else tells of. */
  pollSoon(): void {
    this.#scheduled ??= setImmediate(this.#pollScheduled);
  }

  #deliver(): void {
    while (this.#at < this.#count) {
      const at = this.#at++ * 2;
      this.#members[this.#ready[at]]?.completed(this.#ready[at + 1]);
    }
  }
}
