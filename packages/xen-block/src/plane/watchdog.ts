/**
 * Looks for rings that have requests and that nobody looks at: a lost event, a frontend that sends none, a fault of ours.
 * They are counted, told and looked at. It costs a look at each ring's indices a few times a second, off the hot path.
 *
 * What must hold: an event loop that was blocked is no reason. Between two looks the event loop has had a whole turn, in
 * which it delivered what had come: so what is overlooked was overlooked in several turns, however long they were.
 */
import { overlookedChannel, type RingOverlookedEvent } from '../diagnostics.js';
import { stuckList } from './at-rest.js';
import type { MemoryShares } from './fairness/memory-shares.js';
import type { Waiting as WaitingRequests } from './fairness/waiting.js';
import type { PassLoop } from './pass.js';
import type { PassLists } from './requests/lists.js';
import type { RequestTable } from './requests/table.js';
import type { Barriers } from './rings/barriers.js';
import type { BlockRing } from './rings/ring.js';
import type { RingSet } from './rings/ring-set.js';

const INTERVAL_MS = 250;
/** Intervals in which nobody looks at a ring before it is looked at because of this: a second. */
const INTERVALS = 4;

interface Parts {
  readonly rings: RingSet;
  readonly lists: PassLists;
  readonly table: RequestTable;
  readonly shares: MemoryShares;
  readonly waiting: WaitingRequests;
  readonly barriers: Barriers;
  readonly loop: Pick<PassLoop, 'runs' | 'rescue'>;
}

/** A ring that had requests at the last look. */
interface Waiting {
  readonly ring: BlockRing;
  readonly requestsConsumed: number;
  intervals: number;
}

export class Watchdog {
  readonly #parts: Parts;
  /** By ring index. */
  readonly #waiting: (Waiting | undefined)[] = [];
  /** How often the loop had run, and for how many intervals it has not though there was something to do. */
  #runs = 0;
  #stuck = 0;
  #timer: NodeJS.Timeout | undefined;
  #turn: NodeJS.Immediate | undefined;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Begins to look; harmless when repeated. It keeps no process alive. */
  start(): void {
    if (this.#timer === undefined && this.#turn === undefined) this.#wait();
  }

  stop(): void {
    clearTimeout(this.#timer);
    clearImmediate(this.#turn);
    this.#timer = this.#turn = undefined;
  }

  #wait(): void {
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#look();
      // Timers that are late follow each other without a turn of the event loop; this comes after one.
      this.#turn = setImmediate(() => {
        this.#turn = undefined;
        this.#wait();
      });
    }, INTERVAL_MS);
    this.#timer.unref();
  }

  #look(): void {
    const { all } = this.#parts.rings;
    for (let i = 0; i < all.length; i++) this.#lookAt(i, all[i]);
    this.#lookAtLists();
  }

  #lookAt(index: number, ring: BlockRing | undefined): void {
    if (!ring || !this.#parts.barriers.mayTake(ring) || !ring.back.hasRequests()) {
      this.#waiting[index] = undefined;
      return;
    }
    const { requestsConsumed } = ring.back;
    const waiting = this.#waiting[index];
    if (waiting?.ring !== ring || waiting.requestsConsumed !== requestsConsumed) {
      this.#waiting[index] = { ring, requestsConsumed, intervals: 0 };
    } else if (++waiting.intervals === INTERVALS) {
      this.#waiting[index] = undefined;
      this.#overlooked(ring);
    }
  }

  /** Requests that were taken, and are in a list that no run looks at: they belong to a ring too. */
  #lookAtLists(): void {
    const { loop, lists, table, waiting } = this.#parts;
    const { runs } = loop;
    const stuck = runs === this.#runs && stuckList(this.#parts) !== undefined;
    this.#runs = runs;
    this.#stuck = stuck ? this.#stuck + 1 : 0;
    if (this.#stuck < INTERVALS) return;
    this.#stuck = 0;
    const list = [lists.ended, lists.restart, lists.admitted, lists.taken].find(({ count }) => count > 0);
    if (list) this.#overlooked(table.ringOf(list.items[0]));
    else if (waiting.guests.length > 0) this.#overlooked(waiting.guests[0].waiting[0]);
  }

  #overlooked(ring: BlockRing): void {
    const { rings, loop } = this.#parts;
    ring.counters.overlooked();
    overlookedChannel.publish({
      ring: ring.name,
      ...ring.back.indices,
      inFlight: ring.pending,
      awake: rings.awake.includes(ring),
    } satisfies RingOverlookedEvent);
    loop.rescue(ring);
  }
}
