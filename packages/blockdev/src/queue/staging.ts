/**
 * Between `push` and `submit`: operations in one flat array of numbers, their scatter lists in another, which the addon
 * reads as they are (native/slots.h has the layout). Only what has passed the checks of EngineQueue gets in; an
 * operation that has not is staged as its result, a negative errno in place of the operation, and without a scatter
 * list. Nothing is allocated per operation: the arrays have room for `depth` operations, and the scatter lists' one
 * grows to the largest batch.
 */
import { IOV_WORDS } from '../block-image.js';
import type { ArrayMemory } from './buffer.js';

/** Words of one staged operation: operation, tag, offset, length, first word of its scatter list, entries in it. */
export const STAGED_WORDS = 6;
const StagedWord = { op: 0, tag: 1, offset: 2, length: 3, iovAt: 4, iovCount: 5 } as const;

/** In place of an operation: there is nothing to do for it, and its result is 0. */
export const NOTHING = -0x10000;

const FIRST_IOV_WORDS = 64 * IOV_WORDS;
const WORD_BYTES = 8;

/** Operations pushed and not yet submitted. `at` is an operation's first word: STAGED_WORDS apart from 0 on. */
export class Staging {
  readonly operations: Float64Array;
  /** The scatter lists, one after the other; replaced by a larger array when it is full. */
  iov: Float64Array;
  /** Where the engine puts completions: an operation's tag, and its result. */
  readonly tags: Int32Array;
  readonly results: Int32Array;
  count = 0;
  #iovWords = 0;
  readonly #allocate: (bytes: number) => ArrayMemory;

  constructor(depth: number, allocate: (bytes: number) => ArrayMemory) {
    this.#allocate = allocate;
    const words = depth * STAGED_WORDS;
    // One piece of memory for all, whose last bytes are those that the addon writes.
    const { buffer, at } = allocate((words + depth) * WORD_BYTES);
    const completions = at + words * WORD_BYTES;
    this.operations = new Float64Array(buffer, at, words);
    this.tags = new Int32Array(buffer, completions, depth);
    this.results = new Int32Array(buffer, completions + this.tags.byteLength, depth);
    this.iov = this.#iovOf(FIRST_IOV_WORDS);
  }

  add(op: number, tag: number, offset: number, length: number, iov: Float64Array, iovCount: number): void {
    const at = this.count++ * STAGED_WORDS;
    const words = this.operations;
    words[at + StagedWord.op] = op;
    words[at + StagedWord.tag] = tag;
    words[at + StagedWord.offset] = offset;
    words[at + StagedWord.length] = length;
    words[at + StagedWord.iovAt] = this.#iovWords;
    words[at + StagedWord.iovCount] = iovCount;
    if (iovCount > 0) this.#addIov(iov, iovCount * IOV_WORDS);
  }

  clear(): void {
    this.count = 0;
    this.#iovWords = 0;
  }

  /** A BlockOp; or the negative errno with which the operation was refused; or NOTHING. */
  op(at: number): number {
    return this.operations[at + StagedWord.op];
  }

  tag(at: number): number {
    return this.operations[at + StagedWord.tag];
  }

  offset(at: number): number {
    return this.operations[at + StagedWord.offset];
  }

  length(at: number): number {
    return this.operations[at + StagedWord.length];
  }

  /** The scatter list is `iov[iovStart(at) .. iovEnd(at))`. */
  iovStart(at: number): number {
    return this.operations[at + StagedWord.iovAt];
  }

  iovEnd(at: number): number {
    return this.operations[at + StagedWord.iovAt] + this.operations[at + StagedWord.iovCount] * IOV_WORDS;
  }

  #addIov(iov: Float64Array, words: number): void {
    if (this.#iovWords + words > this.iov.length) this.#grow(this.#iovWords + words);
    for (let i = 0; i < words; i++) this.iov[this.#iovWords + i] = iov[i];
    this.#iovWords += words;
  }

  #grow(words: number): void {
    const larger = this.#iovOf(2 ** Math.ceil(Math.log2(words)));
    larger.set(this.iov);
    this.iov = larger;
  }

  #iovOf(words: number): Float64Array {
    const { buffer, at } = this.#allocate(words * WORD_BYTES);
    return new Float64Array(buffer, at, words);
  }
}
