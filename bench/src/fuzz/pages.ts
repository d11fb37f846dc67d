import type { RawQueue } from '@xenpv/blkfront/testing';

export interface FuzzPage {
  readonly gref: number;
  readonly words: Int32Array;
}

/** The granted pages of a queue, used in an order that has nothing to do with memory. */
export class Pages {
  readonly #free: FuzzPage[];

  constructor(raw: RawQueue, count: number) {
    this.#free = Array.from({ length: count }, () => {
      const { gref, bytes } = raw.page();
      return { gref, words: new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4) };
    });
  }

  take(count: number): FuzzPage[] | undefined {
    return count <= this.#free.length ? this.#free.splice(this.#free.length - count) : undefined;
  }

  give(pages: readonly FuzzPage[]): void {
    for (const page of pages) this.#free.push(page);
  }
}
