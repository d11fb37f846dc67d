import { RingError } from './errors.js';
import type { RingMemory } from './memory.js';

/** Where one direction of an event page is: offsets in its page in bytes. */
export interface EventPageLayout {
  /** The offset of the first event. */
  readonly events: number;
  /** Bytes of an event, a multiple of 4. */
  readonly eventBytes: number;
  /** How many fit: any number, not only a power of two. */
  readonly length: number;
  /** The offset of the consumer's index, u32, free-running. */
  readonly consumer: number;
  /** The offset of the producer's index, u32, free-running. */
  readonly producer: number;
}

/** The page of a keyboard, pointer or touch device: `struct xenkbd_page` of io/kbdif.h. */
export const KEYBOARD_PAGE = {
  /** `in_cons`, `in_prod`, `union xenkbd_in_event`: to the guest. */
  input: { events: 1024, eventBytes: 40, length: 51, consumer: 0, producer: 4 },
  /** `out_cons`, `out_prod`, `union xenkbd_out_event`: from the guest. */
  output: { events: 3072, eventBytes: 40, length: 25, consumer: 8, producer: 12 },
} as const satisfies Record<string, EventPageLayout>;

/** The page of a framebuffer: `struct xenfb_page` of io/fbif.h. */
export const FRAMEBUFFER_PAGE = {
  /** `in_cons`, `in_prod`, `union xenfb_in_event`: to the guest. */
  input: { events: 1024, eventBytes: 40, length: 25, consumer: 0, producer: 4 },
  /** `out_cons`, `out_prod`, `union xenfb_out_event`: from the guest. */
  output: { events: 2048, eventBytes: 40, length: 51, consumer: 8, producer: 12 },
} as const satisfies Record<string, EventPageLayout>;

/** The event page of a display's connector: `struct xendispl_event_page` of io/displif.h, to the guest only. */
export const DISPLAY_EVENT_PAGE = {
  /** `in_cons`, `in_prod`, `struct xendispl_evt`. */
  input: { events: 64, eventBytes: 64, length: 63, consumer: 0, producer: 4 },
} as const satisfies Record<string, EventPageLayout>;

/** The event page of a sound stream: `struct xensnd_event_page` of io/sndif.h, to the guest only. */
export const SOUND_EVENT_PAGE = {
  /** `in_cons`, `in_prod`, `struct xensnd_evt`. */
  input: { events: 64, eventBytes: 64, length: 63, consumer: 0, producer: 4 },
} as const satisfies Record<string, EventPageLayout>;

/**
 * One direction of a page of events of a fixed size, for its producer or its consumer: keyboards, framebuffers,
 * displays, sound. Event number n, counted through 32 bits, is at place n modulo the length.
 *
 * What comes in is a page that the peer writes at any time: an index that is impossible is reported, never thrown, and
 * nothing outside of the events is read or written. Nothing is notified: whoever moved events tells the peer.
 */
export class EventRing {
  /** How many events it holds. */
  readonly length: number;
  /** Bytes of an event. */
  readonly eventBytes: number;
  readonly #words: Int32Array;
  readonly #consumer: number;
  readonly #producer: number;
  readonly #events: Uint8Array;

  /** `page` is aligned to 4 bytes. RingError ERR_RING_MEMORY when the layout does not fit it. */
  constructor(page: RingMemory, layout: EventPageLayout) {
    const { events, eventBytes, length, consumer, producer } = layout;
    const end = Math.max(events + eventBytes * length, consumer + 4, producer + 4);
    if (page.byteOffset % 4 !== 0 || page.byteLength < end || eventBytes < 4 || eventBytes % 4 !== 0 || length < 1) {
      const message = `${length} events of ${eventBytes} bytes in a page of ${page.byteLength} at ${page.byteOffset}`;
      throw new RingError('ERR_RING_MEMORY', 'create', message);
    }
    this.length = length;
    this.eventBytes = eventBytes;
    this.#words = new Int32Array(page.buffer, page.byteOffset, page.byteLength >> 2);
    this.#consumer = consumer >> 2;
    this.#producer = producer >> 2;
    this.#events = new Uint8Array(page.buffer, page.byteOffset + events, eventBytes * length);
  }

  /** Events that can be taken now; -1 when the peer's index is impossible. */
  get queued(): number {
    return this.#distance(Atomics.load(this.#words, this.#producer), Atomics.load(this.#words, this.#consumer));
  }

  /**
   * Copies the next event into `target` from its beginning, as many bytes as it has room for. True if there was one; it
   * is the peer's, and is to be checked in the copy.
   */
  take(target: Uint8Array): boolean {
    const consumer = Atomics.load(this.#words, this.#consumer);
    if (this.#distance(Atomics.load(this.#words, this.#producer), consumer) <= 0) return false;
    const at = this.#placeOf(consumer);
    target.set(this.#events.subarray(at, at + Math.min(this.eventBytes, target.length)));
    Atomics.store(this.#words, this.#consumer, (consumer + 1) | 0);
    return true;
  }

  /**
   * Appends an event, with zeroes behind it if `source` is shorter than an event. False if there is no room, or the
   * peer's index is impossible. RingError ERR_RING_OVERFLOW for a `source` that is longer.
   */
  put(source: Uint8Array): boolean {
    if (source.length > this.eventBytes) {
      const message = `an event of ${source.length} bytes; it has at most ${this.eventBytes}`;
      throw new RingError('ERR_RING_OVERFLOW', 'put', message);
    }
    const producer = Atomics.load(this.#words, this.#producer);
    const queued = this.#distance(producer, Atomics.load(this.#words, this.#consumer));
    if (queued < 0 || queued === this.length) return false;
    const at = this.#placeOf(producer);
    this.#events.set(source, at);
    this.#events.fill(0, at + source.length, at + this.eventBytes);
    Atomics.store(this.#words, this.#producer, (producer + 1) | 0);
    return true;
  }

  #placeOf(index: number): number {
    return ((index >>> 0) % this.length) * this.eventBytes;
  }

  #distance(producer: number, consumer: number): number {
    const distance = (producer - consumer) >>> 0;
    return distance > this.length ? -1 : distance;
  }
}
