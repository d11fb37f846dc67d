import { RingError } from './errors.js';
import { SHARED, SLOTS_WORD } from './layout.js';
import type { RingMemory } from './memory.js';
import { overlay } from './shared-ring.js';

/**
 * The backend's end of a shared ring (io/ring.h BACK_RING): takes requests, puts responses into their slots.
 *
 * What comes in: memory that the frontend writes at any time. What must hold: its producer index is at most a whole
 * ring ahead of the answered requests; {@link harvest} says -1 once it is not, and the caller must then stop the ring.
 * All indices are free-running u32; every method that moves slots uses private copies of them, so that a frontend that
 * rewrites its indices changes nothing that was decided before. What never happens: an exception for something that
 * the frontend did, a slot that is read twice, an access outside of the ring, an event: pushing says whether one is
 * due.
 *
 * @example
 * ```ts
 * import { BackRing, FrontRing } from '@xenpv/ring';
 *
 * const page = new Uint8Array(new SharedArrayBuffer(4096));
 * const front = new FrontRing(page, 112); // bytes of a slot
 * const back = BackRing.attach(page, 112);
 * const words = new Int32Array(back.slotWords);
 * front.putRequest(words, 0, back.slotWords);
 * front.pushRequests();
 * for (let n = back.harvest(); n > 0; n--) {
 *   back.takeRequest(words, 0);
 *   back.putResponse(words, 0, back.slotWords);
 * }
 * if (back.pushResponses()) console.log('send an event');
 * ```
 */
export class BackRing {
  /** Slots, a power of two. */
  readonly size: number;
  /** 32-bit words of a slot. */
  readonly slotWords: number;
  readonly #words: Int32Array;
  readonly #mask: number;
  #reqCons: number;
  #rspProdPvt: number;
  #rspProd: number;

  /**
   * Attaches to the ring in `memory` with both private indices at `attachAt` (BACK_RING_ATTACH; 0 is
   * BACK_RING_INIT). RingError ERR_RING_MEMORY when no slot of `slotBytes` fits or it is misaligned.
   */
  constructor(memory: RingMemory, slotBytes: number, attachAt = 0) {
    const { words, slots, slotWords } = overlay(memory, slotBytes);
    this.#words = words;
    this.size = slots;
    this.slotWords = slotWords;
    this.#mask = slots - 1;
    this.#reqCons = this.#rspProdPvt = this.#rspProd = attachAt >>> 0;
  }

  /**
   * Attaches at the shared response index: to a fresh ring, or to a live one where an earlier backend stopped.
   * RingError ERR_RING_OVERFLOW when more requests are waiting than the ring has slots.
   */
  static attach(memory: RingMemory, slotBytes: number): BackRing {
    const { words, slots } = overlay(memory, slotBytes);
    const rspProd = Atomics.load(words, SHARED.rspProd) >>> 0;
    const waiting = (Atomics.load(words, SHARED.reqProd) - rspProd) >>> 0;
    if (waiting > slots) {
      throw new RingError('ERR_RING_OVERFLOW', 'attach', `${waiting} requests wait in a ring of ${slots} slots`);
    }
    return new BackRing(memory, slotBytes, rspProd);
  }

  /**
   * Goes on where an earlier backend was that had taken `count` requests which it has not answered, and which the
   * caller knows otherwise. Only right after {@link attach}. RingError ERR_RING_OVERFLOW when there are not that many.
   */
  skipTaken(count: number): void {
    if (count > this.waiting) {
      throw new RingError(
        'ERR_RING_OVERFLOW',
        'skipTaken',
        `${count} requests were taken, and only ${this.waiting} are there`,
      );
    }
    this.#reqCons = (this.#reqCons + count) >>> 0;
  }

  /** req_cons: the u32 index of the next request to take. */
  get requestsConsumed(): number {
    return this.#reqCons;
  }

  /** rsp_prod_pvt: the u32 index of the next response to put. */
  get responsesProduced(): number {
    return this.#rspProdPvt;
  }

  /** All indices as they are now, u32, for messages: req_prod and req_event are in memory that the frontend writes. */
  get indices(): {
    /** `req_prod`, shared: whatever the frontend wrote. */
    readonly requestsProduced: number;
    /** `req_event`, shared: set by this end, to get an event once `req_prod` is there. */
    readonly requestEvent: number;
    /** `req_cons`, private. */
    readonly requestsConsumed: number;
    /** `rsp_prod` as this end last published it: without the responses that were put since. */
    readonly responsesProduced: number;
  } {
    return {
      requestsProduced: Atomics.load(this.#words, SHARED.reqProd) >>> 0,
      requestEvent: Atomics.load(this.#words, SHARED.reqEvent) >>> 0,
      requestsConsumed: this.#reqCons,
      responsesProduced: this.#rspProd,
    };
  }

  /** Requests taken whose responses were not put yet. */
  get inFlight(): number {
    return (this.#reqCons - this.#rspProdPvt) >>> 0;
  }

  /**
   * Reads the producer index once: how many requests may be taken now, never more than can be answered.
   * -1: it is further ahead than the ring is long, the frontend is broken or malicious, stop using the ring.
   */
  harvest(): number {
    const { waiting } = this;
    // A producer that went back behind our consumer is as far ahead, seen modulo 2^32.
    const answerable = this.size - this.inFlight;
    return waiting > answerable ? -1 : waiting;
  }

  /**
   * Copies the whole next slot ({@link slotWords} words) once to `target[at ..]` and advances req_cons. Only as
   * often as {@link harvest} allowed. Returns the u32 ring index that the request had. The words are signed: read an
   * unsigned field with `>>> 0`, or through a Uint32Array over the same buffer.
   */
  takeRequest(target: Int32Array, at: number): number {
    const index = this.#reqCons;
    const words = this.#words;
    const n = this.slotWords;
    const from = SLOTS_WORD + (index & this.#mask) * n;
    for (let i = 0; i < n; i++) target[at + i] = words[from + i];
    this.#reqCons = (index + 1) >>> 0;
    return index;
  }

  /**
   * Copies the slot of the request with ring index `index` to `target[at ..]` and takes nothing: what is there now,
   * which may be a response, or what the frontend has put there since.
   */
  peekRequest(index: number, target: Int32Array, at: number): void {
    const from = SLOTS_WORD + (index & this.#mask) * this.slotWords;
    for (let i = 0; i < this.slotWords; i++) target[at + i] = this.#words[from + i];
  }

  /**
   * Writes the response `source[at .. at + words)` to the start of the next response slot and advances
   * rsp_prod_pvt; the frontend does not see it before {@link pushResponses}. `words` is the whole response with its
   * padding, so that nothing of ours leaks. RingError ERR_RING_OVERFLOW when there is no request to answer.
   */
  putResponse(source: Int32Array, at: number, words: number): void {
    const index = this.#rspProdPvt;
    if (index === this.#reqCons)
      throw new RingError('ERR_RING_OVERFLOW', 'putResponse', 'a response without a request');
    const to = SLOTS_WORD + (index & this.#mask) * this.slotWords;
    const shared = this.#words;
    for (let i = 0; i < words; i++) shared[to + i] = source[at + i];
    this.#rspProdPvt = (index + 1) >>> 0;
  }

  /**
   * Publishes the responses put so far (RING_PUSH_RESPONSES_AND_CHECK_NOTIFY). True: the frontend asked for an event.
   */
  pushResponses(): boolean {
    const old = this.#rspProd;
    const now = this.#rspProdPvt;
    Atomics.store(this.#words, SHARED.rspProd, now | 0);
    this.#rspProd = now;
    const event = Atomics.load(this.#words, SHARED.rspEvent);
    return (now - event) >>> 0 < (now - old) >>> 0;
  }

  /** Requests that wait to be taken, as far as the shared producer index can be believed. */
  get waiting(): number {
    return (Atomics.load(this.#words, SHARED.reqProd) - this.#reqCons) >>> 0;
  }

  /** Whether `count` requests may be taken now. Also true of an impossible producer index: {@link harvest} tells. */
  hasRequests(count = 1): boolean {
    return this.waiting >= count;
  }

  /**
   * To be called before sleeping (RING_FINAL_CHECK_FOR_REQUESTS): true when `holdOff` requests are there; else the
   * frontend will send an event with the `holdOff`-th (1 as io/ring.h does it). With more, events come in batches, and
   * the caller must look again after a while by itself: the frontend may not have that many.
   */
  finalCheck(holdOff = 1): boolean {
    if (this.hasRequests(holdOff)) return true;
    Atomics.store(this.#words, SHARED.reqEvent, (this.#reqCons + holdOff) | 0);
    return this.hasRequests(holdOff);
  }
}
