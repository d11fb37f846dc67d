import { XEN_PAGE_SIZE } from '@xenpv/xen-sys';

const PAGE_SHIFT = 12;
const PAGE_MASK = XEN_PAGE_SIZE - 1;

/** Below this a loop over words beats making a view. */
const WORD_LOOP_BYTES = 1024;

/** A buffer that is copied from and to without allocating for whole pages: one cached view per page. */
export class PageViews {
  readonly bytes: Uint8Array;
  readonly #words: Int32Array;
  readonly #pages: (Buffer | undefined)[];

  constructor(buffer: ArrayBufferLike, offset = 0, length = buffer.byteLength - offset) {
    this.bytes = new Uint8Array(buffer, offset, length);
    this.#words = new Int32Array(buffer, offset, Math.floor(length / 4));
    this.#pages = [];
  }

  get byteLength(): number {
    return this.bytes.length;
  }

  /** The whole page `index`, cached. */
  page(index: number): Buffer {
    return (this.#pages[index] ??= Buffer.from(
      this.bytes.buffer,
      this.bytes.byteOffset + index * XEN_PAGE_SIZE,
      XEN_PAGE_SIZE,
    ));
  }

  /**
   * Copies `length` bytes from `source`; both ranges must be inside and may not overlap.
   *
   * Whole pages go through Buffer.fill, which is a memcpy: 119 ns for 4 KiB, where TypedArray.set, whose copy of
   * shared memory is atomic word by word, takes 171 ns, and a loop 330 to 670 ns.
   */
  copyFrom(source: PageViews, from: number, to: number, length: number): void {
    if (length === XEN_PAGE_SIZE && ((from | to) & PAGE_MASK) === 0) {
      this.page(to >>> PAGE_SHIFT).fill(source.page(from >>> PAGE_SHIFT));
    } else if (length <= WORD_LOOP_BYTES && ((from | to | length) & 3) === 0) {
      copyWords(source.#words, from >>> 2, this.#words, to >>> 2, length >>> 2);
    } else {
      this.bytes.set(source.bytes.subarray(from, from + length), to);
    }
  }
}

function copyWords(source: Int32Array, from: number, target: Int32Array, to: number, count: number): void {
  for (let i = 0; i < count; i++) target[to + i] = source[from + i];
}
