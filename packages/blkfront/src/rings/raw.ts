import { type Abi, responseIdHigh, responseIdLow, responseOperation, responseStatus } from '@xenpv/blkif';
import type { FrontRing } from '@xenpv/ring';
import type { Gref } from '@xenpv/xen-sys';
import { BlkfrontError } from '../errors.js';
import type { FrontendPages } from './pages.js';
import type { FrontendQueue } from './queue.js';

/** A response as it came. */
export interface RawResponse {
  /** The low 32 bits of `id`, as a signed word: those of the request. */
  readonly idLow: number;
  /** The high 32 bits of `id`, as a signed word. */
  readonly idHigh: number;
  /** 0 to 255, a BlkifOp if the backend is right: for an indirect request the one inside it. */
  readonly operation: number;
  /** A signed 16-bit number, a BlkifStatus if the backend is right. */
  readonly status: number;
  /** All its words, the padding too. */
  readonly words: Int32Array;
}

/** A granted page for raw requests. */
export interface RawPage {
  /** What the backend may map or copy, to read and write. */
  readonly gref: Gref;
  /** The page itself, 4096 bytes, which the backend may change at any time. */
  readonly bytes: Uint8Array;
  /** Gives it back. */
  release(): void;
}

interface Waiting {
  resolve(response: RawResponse): void;
  reject(error: Error): void;
}

/**
 * The protocol by hand, for tests of a backend: any words as a request, the response as it came, the ring itself.
 * Ids are the caller's; those with 0x424b in their highest 16 bits are the Blkfront's own.
 */
export class RawQueue {
  /** The layout that the ring's slots have, whatever `protocol` says. */
  readonly abi: Abi;
  /** Our end of the ring. */
  readonly ring: FrontRing;
  /** The shared page or pages, indices and slots, to write anything into. */
  readonly shared: Int32Array;
  readonly #queue: FrontendQueue;
  readonly #pages: FrontendPages;
  readonly #notify: () => void;
  readonly #waiting = new Map<string, Waiting[]>();

  constructor(queue: FrontendQueue, abi: Abi, pages: FrontendPages, shared: Int32Array, notify: () => void) {
    this.abi = abi;
    this.ring = queue.ring;
    this.shared = shared;
    this.#queue = queue;
    this.#pages = pages;
    this.#notify = notify;
    queue.onRawResponse = (words) => this.#take(words);
  }

  /**
   * Sends a request of up to `abi.slotWords` words and waits for the response with its id. BlkfrontError
   * ERR_BACKEND when the ring is full.
   */
  request(words: Int32Array): Promise<RawResponse> {
    const response = this.put(words);
    this.#queue.push();
    return response;
  }

  /** {@link request}, but seen by the backend only after {@link push}. */
  put(words: Int32Array): Promise<RawResponse> {
    if (!this.#queue.startRaw(words)) {
      return Promise.reject(new BlkfrontError('ERR_BACKEND', 'raw', 'the ring is full'));
    }
    return new Promise((resolve, reject) => {
      const id = key(words[this.abi.idWord], words[this.abi.idWord + 1]);
      const others = this.#waiting.get(id) ?? [];
      others.push({ resolve, reject });
      this.#waiting.set(id, others);
    });
  }

  /** Shows the backend what was put, and sends it an event if it asked for one. */
  push(): void {
    this.#queue.push();
  }

  /** Sends an event, whether the backend asked for one or not. */
  notify(): void {
    this.#notify();
  }

  /** A page that the backend may read and write. */
  page(): RawPage {
    if (!this.#pages.reserve(1)) throw new BlkfrontError('ERR_BACKEND', 'raw', 'all pages are in use');
    const index = this.#pages.take();
    const release = () => this.#pages.give(index);
    return { gref: this.#pages.refs[index], bytes: this.#pages.bytes[index], release };
  }

  /** Rejects what still waits. */
  fail(error: Error): void {
    for (const waiting of this.#waiting.values()) {
      for (const { reject } of waiting) reject(error);
    }
    this.#waiting.clear();
  }

  #take(words: Int32Array): boolean {
    const idLow = responseIdLow(words, 0);
    const idHigh = responseIdHigh(words, 0);
    const waiting = this.#waiting.get(key(idLow, idHigh));
    const next = waiting?.shift();
    if (next === undefined) return false;
    if (waiting?.length === 0) this.#waiting.delete(key(idLow, idHigh));
    next.resolve({
      idLow,
      idHigh,
      operation: responseOperation(words, 0),
      status: responseStatus(words, 0),
      words: words.slice(0, this.abi.responseWords),
    });
    return true;
  }
}

function key(low: number, high: number): string {
  return `${high >>> 0}:${low >>> 0}`;
}
