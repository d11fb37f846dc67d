import {
  type Abi,
  BlkifOp,
  encodeSegment,
  MAX_SEGMENTS,
  RequestWriter,
  responseIdHigh,
  responseIdLow,
  responseOperation,
  responseStatus,
  SECTORS_PER_PAGE,
  SEGMENT_WORDS,
  SEGMENTS_PER_INDIRECT_PAGE,
} from '@xenpv/blkif';
import type { FrontRing } from '@xenpv/ring';
import { type EventChannels, XEN_PAGE_SIZE } from '@xenpv/xen-sys';
import type { FrontendPages } from './pages.js';

const FREE = -1;
const NONE = -1;

/** Marks our ids in their high word, so that a raw request's id is not taken for one of them. */
const ID_MARK = 0x424b0000;

export interface FrontendQueueOptions {
  readonly ring: FrontRing;
  readonly abi: Abi;
  readonly pages: FrontendPages;
  readonly events: EventChannels;
  readonly port: number;
  /** Segments of the largest request: 11, or more with indirect ones. */
  readonly maxSegments: number;
  /** The device handle in every request: the vdev number's low 16 bits, as Linux sends it. */
  readonly handle: number;
}

/**
 * A ring with its requests: starts them, finds their responses, knows which pages belong to which. Nothing waits and
 * nothing is allocated per request; what a response means is the caller's ({@link onResponse}).
 */
export class FrontendQueue {
  readonly ring: FrontRing;
  readonly port: number;
  readonly maxSegments: number;
  /** Called for each of our responses, while the request's pages are still its own. */
  onResponse: (slot: number, status: number) => void = () => {};
  /** Called for a response whose id is not ours, on the words of the response. False: nobody asked for that. */
  onRawResponse: (words: Int32Array) => boolean = () => false;
  /** Why the backend cannot be trusted any more, once that is so. */
  broken: string | undefined;
  readonly #abi: Abi;
  readonly #pages: FrontendPages;
  readonly #events: EventChannels;
  readonly #writer: RequestWriter;
  readonly #response = new Int32Array(4);
  readonly #free: Int32Array;
  #freeCount: number;
  readonly #operation: Int32Array;
  readonly #generation: Int32Array;
  readonly #pagesPerSlot: number;
  readonly #slotPages: Int32Array;
  readonly #dataPages: Int32Array;
  readonly #allPages: Int32Array;

  constructor(options: FrontendQueueOptions) {
    this.ring = options.ring;
    this.port = options.port;
    this.maxSegments = options.maxSegments;
    this.#abi = options.abi;
    this.#pages = options.pages;
    this.#events = options.events;
    const slots = options.ring.size;
    this.#writer = new RequestWriter(new Int32Array(options.abi.slotWords), options.abi, options.handle);
    this.#free = Int32Array.from({ length: slots }, (_, i) => slots - 1 - i);
    this.#freeCount = slots;
    this.#operation = new Int32Array(slots).fill(FREE);
    this.#generation = new Int32Array(slots);
    this.#pagesPerSlot = pagesOfRequest(options.maxSegments);
    this.#slotPages = new Int32Array(slots * this.#pagesPerSlot);
    this.#dataPages = new Int32Array(slots);
    this.#allPages = new Int32Array(slots);
  }

  /** Requests that were started and not answered. */
  get inFlight(): number {
    return this.ring.size - this.#freeCount;
  }

  /** The most bytes that one read or write can move. */
  get maxBytes(): number {
    return this.maxSegments * XEN_PAGE_SIZE;
  }

  /**
   * Starts a read, write, barrier or flush of `sectors` 512-byte sectors (0 for a flush alone). Returns the slot, or
   * -1 when the ring or the pages are all in use. The backend sees it after {@link push}.
   */
  start(operation: number, sector: number, sectors: number): number {
    const segments = Math.ceil(sectors / SECTORS_PER_PAGE);
    const slot = this.#takeSlot(operation, segments);
    if (slot === NONE) return NONE;
    if (segments <= MAX_SEGMENTS) this.#putDirect(slot, operation, segments, sector, sectors);
    else this.#putIndirect(slot, operation, segments, sector, sectors);
    return slot;
  }

  /** Starts a discard, as {@link start}. */
  startDiscard(flag: number, sector: number, sectors: number): number {
    const slot = this.#takeSlot(BlkifOp.discard, 0);
    if (slot === NONE) return NONE;
    const words = this.#writer.discard(flag, slot, this.#generation[slot], sector, sectors);
    this.ring.putRequest(this.#writer.words, 0, words);
    return slot;
  }

  /** Puts a request of somebody else's making, the whole slot. False when the ring is full. */
  startRaw(request: Int32Array): boolean {
    if (this.ring.full) return false;
    this.ring.putRequest(request, 0, Math.min(request.length, this.#abi.slotWords));
    return true;
  }

  /** Shows the backend what was started, and wakes it if it asked for that. */
  push(): void {
    if (this.ring.pushRequests()) this.#events.notify(this.port);
  }

  /** Takes the responses that are there. How many, or -1 when the backend is broken (see {@link broken}). */
  poll(): number {
    const count = this.ring.harvest();
    if (count < 0) return this.#break('its response index is impossible');
    for (let i = 0; i < count; i++) {
      this.ring.takeResponse(this.#response, 0, this.#abi.responseWords);
      if (!this.#take(this.#response)) return -1;
    }
    return count;
  }

  /** Takes responses until there are none and the backend has been asked to send an event with the next. */
  drain(): number {
    let total = 0;
    do {
      const count = this.poll();
      if (count < 0) return count;
      total += count;
    } while (this.ring.finalCheck());
    return total;
  }

  /** Copies `source[at .. at + bytes)` into the pages of a request that was started and not pushed. */
  copyIn(slot: number, source: Uint8Array, at: number, bytes: number): void {
    const first = slot * this.#pagesPerSlot;
    for (let done = 0, i = first; done < bytes; done += XEN_PAGE_SIZE, i++) {
      const from = at + done;
      const n = Math.min(XEN_PAGE_SIZE, bytes - done);
      this.#pages.bytes[this.#slotPages[i]].set(source.subarray(from, from + n));
    }
  }

  /** Copies the pages of a request that was answered to `target[at .. at + bytes)`. */
  copyOut(slot: number, target: Uint8Array, at: number, bytes: number): void {
    const first = slot * this.#pagesPerSlot;
    for (let done = 0, i = first; done < bytes; done += XEN_PAGE_SIZE, i++) {
      const page = this.#pages.bytes[this.#slotPages[i]];
      const n = bytes - done;
      target.set(n < XEN_PAGE_SIZE ? page.subarray(0, n) : page, at + done);
    }
  }

  /** The bytes of the `index`-th data page of a request. */
  page(slot: number, index: number): Uint8Array {
    return this.#pages.bytes[this.#slotPages[slot * this.#pagesPerSlot + index]];
  }

  #takeSlot(operation: number, segments: number): number {
    const pages = pagesOfRequest(segments);
    if (this.#freeCount === 0 || this.ring.full || !this.#pages.reserve(pages)) return NONE;
    const slot = this.#free[--this.#freeCount];
    this.#operation[slot] = operation;
    this.#generation[slot] = ID_MARK | ((this.#generation[slot] + 1) & 0xffff);
    this.#dataPages[slot] = segments;
    this.#allPages[slot] = pages;
    const first = slot * this.#pagesPerSlot;
    for (let i = 0; i < pages; i++) this.#slotPages[first + i] = this.#pages.take();
    return slot;
  }

  #giveSlot(slot: number): void {
    const first = slot * this.#pagesPerSlot;
    for (let i = this.#allPages[slot] - 1; i >= 0; i--) this.#pages.give(this.#slotPages[first + i]);
    this.#operation[slot] = FREE;
    this.#free[this.#freeCount++] = slot;
  }

  #putDirect(slot: number, operation: number, segments: number, sector: number, sectors: number): void {
    const request = this.#writer.words;
    const words = this.#writer.readWrite(operation, segments, slot, this.#generation[slot], sector);
    this.#putSegments(request, this.#abi.segmentsWord, slot * this.#pagesPerSlot, segments, sectors);
    this.ring.putRequest(request, 0, words);
  }

  #putIndirect(slot: number, operation: number, segments: number, sector: number, sectors: number): void {
    const first = slot * this.#pagesPerSlot;
    const words = this.#writer.indirect(operation, segments, slot, this.#generation[slot], sector);
    for (let i = 0, from = 0; from < segments; i++, from += SEGMENTS_PER_INDIRECT_PAGE) {
      const page = this.#slotPages[first + segments + i];
      this.#writer.indirectGref(i, this.#pages.refs[page]);
      const count = Math.min(SEGMENTS_PER_INDIRECT_PAGE, segments - from);
      this.#putSegments(this.#pages.words[page], 0, first + from, count, sectors - from * SECTORS_PER_PAGE);
    }
    this.ring.putRequest(this.#writer.words, 0, words);
  }

  #putSegments(target: Int32Array, at: number, firstPage: number, count: number, sectors: number): void {
    for (let i = 0; i < count; i++) {
      const last = Math.min(SECTORS_PER_PAGE, sectors - i * SECTORS_PER_PAGE) - 1;
      encodeSegment(target, at + SEGMENT_WORDS * i, this.#pages.refs[this.#slotPages[firstPage + i]], 0, last);
    }
  }

  #take(response: Int32Array): boolean {
    const slot = responseIdLow(response, 0);
    if (responseIdHigh(response, 0) >>> 16 !== ID_MARK >>> 16) {
      if (this.onRawResponse(response)) return true;
      this.#break('it answered a request that nobody sent');
      return false;
    }
    const known = slot >= 0 && slot < this.ring.size && this.#generation[slot] === responseIdHigh(response, 0);
    if (!known || this.#operation[slot] === FREE) {
      this.#break(`it answered request ${slot}, which is not in flight`);
      return false;
    }
    if (responseOperation(response, 0) !== this.#operation[slot]) {
      this.#break(`it answered operation ${this.#operation[slot]} with ${responseOperation(response, 0)}`);
      return false;
    }
    this.onResponse(slot, responseStatus(response, 0));
    this.#giveSlot(slot);
    return true;
  }

  #break(why: string): number {
    this.broken ??= why;
    return -1;
  }
}

/** Data pages, and for an indirect request the pages with their segments. */
export function pagesOfRequest(segments: number): number {
  return segments <= MAX_SEGMENTS ? segments : segments + Math.ceil(segments / SEGMENTS_PER_INDIRECT_PAGE);
}
