import { getSystemErrorName } from 'node:util';
import { loadNative, type Native, type Reap, type Start } from '../addon.js';

/** Queues whose completions one call collects; more take another call. */
const READY_QUEUES = 256;
const NONE = -1;

/** Who gets the completions of a queue of the ring. */
export interface RingMember {
  /** The first `count` entries of the arrays given to `openQueue` are completions. */
  completed(count: number): void;
}

let current: ThreadRing | string | undefined;

/** This thread's ring, made when first asked for, or why there is none. */
export function threadRing(): ThreadRing | string {
  current ??= openRing();
  return current;
}

function openRing(): ThreadRing | string {
  const native = loadNative();
  if (native instanceof Error) return `the addon is not there: ${native.message.split('\n')[0]}`;
  const ring = new ThreadRing(native);
  return ring.id < 0 ? `io_uring does not work here: ${getSystemErrorName(ring.id)}` : ring;
}

/** The io_uring of this thread, which all its queues use. */
export class ThreadRing {
  readonly native: Native;
  /** Its number in the addon, or a negative errno when it could not be made. */
  readonly id: number;
  /** The eventfd that becomes readable with completions that did not come at once. */
  readonly eventFd: number;
  readonly #reap: Reap;
  readonly #ready = new Int32Array(2 * READY_QUEUES);
  readonly #members: (RingMember | undefined)[] = [];
  /** Pairs of `#ready` that are still to be delivered: a listener may throw, or call `poll`. */
  #at = 0;
  #count = 0;
  #delivering = false;
  /** Somebody polled during a delivery. */
  #asked = false;
  #scheduled: NodeJS.Immediate | undefined;
  readonly #poll = () => {
    this.poll();
  };
  readonly #pollScheduled = () => {
    this.#scheduled = undefined;
    this.poll();
  };

  constructor(native: Native) {
    this.native = native;
    this.id = native.ringOpen(this.#poll, this.#ready);
    this.eventFd = this.id < 0 ? NONE : native.ringEventFd(this.id);
    this.#reap = this.id < 0 ? () => 0 : native.ringReaper(this.id);
  }

  add(queue: number, member: RingMember): void {
    this.#members[queue] = member;
  }

  remove(queue: number): void {
    this.#members[queue] = undefined;
    this.native.queueClose(this.id, queue);
  }

  /** Starts what a queue has staged. `polled`: a `poll` follows in this turn of the event loop, or is done with it. */
  submit(start: Start, count: number, polled: boolean): void {
    const delivered = this.#at === this.#count && !this.#delivering;
    if (polled && delivered) this.#deliverAll(start(count, true));
    else if (start(count, false) !== 0 && !polled) this.#pollSoon();
  }

  /** Delivers what has completed, of any queue. */
  poll(): void {
    if (this.#delivering) this.#asked = true;
    else this.#deliverAll(NONE);
  }

  /** `found`: what was reaped just now, or -1 to do that. */
  #deliverAll(found: number): void {
    this.#delivering = true;
    if (this.#scheduled) this.#unschedule();
    try {
      this.#deliver();
      for (let count = found < 0 ? this.#reap() : found; ; count = this.#reap()) {
        this.#at = 0;
        this.#asked = false;
        this.#count = count;
        this.#deliver();
        if (count < READY_QUEUES && !this.#asked) break;
      }
    } finally {
      this.#delivering = false;
      if (this.#at < this.#count || this.#asked) this.#pollSoon();
    }
  }

  #unschedule(): void {
    clearImmediate(this.#scheduled);
    this.#scheduled = undefined;
  }

  #pollSoon(): void {
    this.#scheduled ??= setImmediate(this.#pollScheduled);
  }

  #deliver(): void {
    while (this.#at < this.#count) {
      const at = this.#at++ * 2;
      this.#members[this.#ready[at]]?.completed(this.#ready[at + 1]);
    }
  }
}
