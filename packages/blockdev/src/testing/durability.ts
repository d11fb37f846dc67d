/** One write of a block. */
export interface BlockWrite {
  /** Which block: its offset is this times `blockBytes`. */
  readonly block: number;
  /** Counts from 1 for each block. */
  readonly sequence: number;
  /** Each sector of it says which write it is of. */
  readonly data: Uint8Array;
}

/** What a flush will have covered once it is answered. */
export type FlushMark = readonly number[];

const SECTOR = 512;

/**
 * Knows what a disk must have after a power cut. Whoever writes says when: `write` before it is started, `answered` when
 * it has ended well, `beginFlush` before a flush is started and `flushed` when that has ended well. Then `faultOf` finds
 * what is missing. Two writes of a block must not be in flight at once; and a disk begins with zeroes.
 */
export class DurabilityRecord {
  /** Bytes of a block: a multiple of 512. */
  readonly blockBytes: number;
  readonly #newest: number[];
  readonly #answered: number[];
  readonly #kept: number[];

  constructor(blocks: number, blockBytes: number) {
    this.blockBytes = blockBytes;
    this.#newest = new Array<number>(blocks).fill(0);
    this.#answered = [...this.#newest];
    this.#kept = [...this.#newest];
  }

  /** The next write of a block, with the data that it is to have. */
  write(block: number): BlockWrite {
    const sequence = ++this.#newest[block];
    const words = new Int32Array(this.blockBytes / 4);
    for (let at = 0; at < words.length; at += 2) words.set([block, sequence], at);
    return { block, sequence, data: new Uint8Array(words.buffer) };
  }

  /** It has ended well. */
  answered({ block, sequence }: BlockWrite): void {
    this.#answered[block] = sequence;
  }

  /** It was answered, and was to be kept by itself: FUA. */
  kept(write: BlockWrite): void {
    this.answered(write);
    this.#kept[write.block] = write.sequence;
  }

  /** A flush starts: returns what {@link flushed} is to be told when it has ended well. */
  beginFlush(): FlushMark {
    return [...this.#answered];
  }

  /** A flush has ended well; `mark` is what {@link beginFlush} returned. */
  flushed(mark: FlushMark): void {
    for (const [block, sequence] of mark.entries()) this.#kept[block] = Math.max(this.#kept[block], sequence);
  }

  /** What is wrong with a block's bytes while the power is on, in words; or undefined. Nothing of it is in flight. */
  faultWhileOn(block: number, bytes: Uint8Array): string | undefined {
    return this.#fault(block, bytes, this.#answered[block], this.#answered[block]);
  }

  /** What is wrong with a block's bytes after a power cut, in words; or undefined. */
  faultOf(block: number, bytes: Uint8Array): string | undefined {
    return this.#fault(block, bytes, this.#kept[block], this.#newest[block]);
  }

  #fault(block: number, bytes: Uint8Array, least: number, most: number): string | undefined {
    const words = new Int32Array(bytes.slice().buffer);
    for (let at = 0; at < words.length; at += 2) {
      const [whose, sequence] = [words[at], words[at + 1]];
      const isTorn = at % (SECTOR / 4) !== 0 && sequence !== words[at - 1];
      const isOurs = whose === (sequence === 0 ? 0 : block) && sequence >= least && sequence <= most;
      if (isOurs && !isTorn) continue;
      return `block ${block} has at byte ${at * 4} write ${sequence} of block ${whose}, not one of ${least} to ${most}`;
    }
    return undefined;
  }
}
