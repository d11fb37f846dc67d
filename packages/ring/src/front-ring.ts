import { RingError } from './errors.js';
import { SHARED, SLOTS_WORD } from './layout.js';
import type { RingMemory } from './memory.js';
import { overlay } from './shared-ring.js';

/**
 * The frontend's end of a shared ring (io/ring.h FRONT_RING): puts requests, takes responses.
 *
 * The backend is trusted no more than a frontend is: {@link harvest} says -1 when its producer index is impossible.
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
 * console.log(front.pushRequests() ? 'send an event' : 'none is wanted');
 * ```
 */
export class FrontRing {
  /** Slots, a power of two. */
  readonly size: number;
  /** 32-bit words of a slot. */
  readonly slotWords: number;
  readonly #words: Int32Array;
  readonly #mask: number;
  #reqProdPvt = 0;
  #reqProd = 0;
  #rspCons = 0;

  /**
   * Makes a new shared ring in `memory` (SHARED_RING_INIT, FRONT_RING_INIT): indices 0, events 1, all else zeroed.
   * With `attachAt`, takes up the one that is there with both private indices at that u32 (FRONT_RING_ATTACH).
   * RingError ERR_RING_MEMORY when no slot of `slotBytes` fits or it is misaligned.
   */
  constructor(memory: RingMemory, slotBytes: number, attachAt?: number) {
    const { words, slots, slotWords } = overlay(memory, slotBytes);
    this.#words = words;
    this.size = slots;
    this.slotWords = slotWords;
    this.#mask = slots - 1;
    if (attachAt === undefined) {
      words.fill(0);
      Atomics.store(words, SHARED.reqEvent, 1);
      Atomics.store(words, SHARED.rspEvent, 1);
    } else {
      this.#reqProdPvt = this.#reqProd = this.#rspCons = attachAt >>> 0;
    }
  }

  /**
   * Takes up a ring in use at the shared response index. Requests that were in flight are the caller's to send
   * again. Errors as the constructor's.
   */
  static attach(memory: RingMemory, slotBytes: number): FrontRing {
    const { words } = overlay(memory, slotBytes);
    return new FrontRing(memory, slotBytes, Atomics.load(words, SHARED.rspProd));
  }

  /** Requests that can be put before the ring is full (RING_FREE_REQUESTS). */
  get free(): number {
    return this.size - ((this.#reqProdPvt - this.#rspCons) >>> 0);
  }

  /** Whether no request fits until a response is taken. */
  get full(): boolean {
    return this.free === 0;
  }

  /** req_prod_pvt: the u32 index of the next request to put. */
  get requestsProduced(): number {
    return this.#reqProdPvt;
  }

  /** rsp_cons: the u32 index of the next response to take. */
  get responsesConsumed(): number {
    return this.#rspCons;
  }

  /**
   * Writes `source[at .. at + words)` to the next request slot and advances req_prod_pvt; the backend does not see
   * it before {@link pushRequests}. RingError ERR_RING_OVERFLOW when the ring is full.
   */
  putRequest(source: Int32Array, at: number, words: number): void {
    if (this.full)
      throw new RingError(
        'ERR_RING_OVERFLOW',
        'putRequest',
        `a request into a ring of ${this.size} slots that is full`,
      );
    const to = SLOTS_WORD + (this.#reqProdPvt & this.#mask) * this.slotWords;
    const shared = this.#words;
    for (let i = 0; i < words; i++) shared[to + i] = source[at + i];
    this.#reqProdPvt = (this.#reqProdPvt + 1) >>> 0;
  }

  /** Publishes the requests put so far (RING_PUSH_REQUESTS_AND_CHECK_NOTIFY). True: the backend asked for an event. */
  pushRequests(): boolean {
    const old = this.#reqProd;
    const now = this.#reqProdPvt;
    Atomics.store(this.#words, SHARED.reqProd, now | 0);
    this.#reqProd = now;
    const event = Atomics.load(this.#words, SHARED.reqEvent);
    return (now - event) >>> 0 < (now - old) >>> 0;
  }

  /** Reads the producer index once: how many responses may be taken now. -1: more than requests were sent. */
  harvest(): number {
    const waiting = (Atomics.load(this.#words, SHARED.rspProd) - this.#rspCons) >>> 0;
    return waiting > (this.#reqProd - this.#rspCons) >>> 0 ? -1 : waiting;
  }

  /**
   * Copies the first `words` words of the next response once to `target[at ..]` and advances rsp_cons. Only as
   * often as {@link harvest} allowed. Returns the u32 ring index that the response had.
   */
  takeResponse(target: Int32Array, at: number, words: number): number {
    const index = this.#rspCons;
    const shared = this.#words;
    const from = SLOTS_WORD + (index & this.#mask) * this.slotWords;
    for (let i = 0; i < words; i++) target[at + i] = shared[from + i];
    this.#rspCons = (index + 1) >>> 0;
    return index;
  }

  /** Whether responses wait. Also true when the producer index is impossible: {@link harvest} tells. */
  hasResponses(): boolean {
    return Atomics.load(this.#words, SHARED.rspProd) >>> 0 !== this.#rspCons;
  }

  /**
   * To be called before sleeping (RING_FINAL_CHECK_FOR_RESPONSES): true when there is more to do; else the backend
   * will send an event with its `holdOff`-th response from now (1 as io/ring.h does it; more batches events).
   */
  finalCheck(holdOff = 1): boolean {
    if (this.hasResponses()) return true;
    Atomics.store(this.#words, SHARED.rspEvent, (this.#rspCons + holdOff) | 0);
    return this.hasResponses();
  }
}
