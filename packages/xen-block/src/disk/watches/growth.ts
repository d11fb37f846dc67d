import type { BlockImage } from '@xenpv/blockdev';

/** Looks from time to time whether storage has grown that says nothing of it. */
export class GrowthWatch {
  readonly #everyMs: number;
  #next: number;
  #looking = false;

  /** `everyMs`: milliseconds between two looks; 0 for none. */
  constructor(everyMs: number, now: number) {
    this.#everyMs = everyMs;
    this.#next = now + everyMs;
  }

  /** Whether the image is larger than when it was last looked at; false where it is not time to look, or it cannot be told. */
  async look(image: BlockImage | undefined, now: number): Promise<boolean> {
    if (!image?.growsUnseen || this.#everyMs === 0 || now < this.#next || this.#looking) return false;
    this.#next = now + this.#everyMs;
    this.#looking = true;
    const before = image.size;
    try {
      return (await image.refresh()) > before;
    } catch {
      // What is wrong with it shows when it is used, or is asked for.
      return false;
    } finally {
      this.#looking = false;
    }
  }
}
