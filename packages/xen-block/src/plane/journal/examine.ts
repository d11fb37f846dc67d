/**
 * Says what a journal that was found means for a ring that was just attached. Nothing is written. In come words that may
 * be anything, and a ring that its frontend writes; out come the entries whose requests are to be carried out, or why
 * there are none.
 */
import type { BackRing } from '@xenpv/ring';
import {
  checkedWord,
  ENTRY_WORDS,
  Entry,
  entryAt,
  HEADER_WORDS,
  Header,
  headerSum,
  type JournalRing,
  journalBytes,
  MAGIC,
  MAGIC_1,
  RESPONSE_WORDS,
  State,
  slotSum,
  VERSION,
  writeHeader,
} from './layout.js';

/**
 * `of-another`: a frontend connected anew meanwhile, or another kernel with the same ring: the ring is new. `lost`: which
 * requests of the ring are in flight is not known. `found` goes on after the file's name.
 */
export type Finding =
  | { readonly is: 'good'; readonly left: Int32Array; readonly put: number; readonly mended: readonly MendedEntry[] }
  | { readonly is: 'of-another' | 'lost'; readonly found: string };

/** An entry that is damaged, and the slot of the ring that still has its request. */
export interface MendedEntry {
  readonly entry: number;
  readonly index: number;
  readonly slot: Int32Array;
}

export function examine(words: Int32Array, ring: JournalRing, back: BackRing): Finding {
  const problem = headerProblem(words);
  if (problem !== undefined) return lost(problem);
  const rspProd = back.responsesProduced;
  if (!isOfConnection(words, ring)) {
    const found = 'is of another connection';
    return rspProd === 0 ? { is: 'of-another', found } : lost(found);
  }
  const published = [checkedWord(words, Header.published), checkedWord(words, Header.publishing)];
  if (published[0] === undefined && published[1] === undefined) return lost('is damaged: its indices');
  if (published.includes(rspProd)) return new Entries(words, ring, back).examine();
  if (rspProd === 0) return OF_ANOTHER_KERNEL;
  return lost(`is stale: it knows of ${published[0] ?? published[1]} answers, and the ring has had ${rspProd}`);
}

const OF_ANOTHER_KERNEL: Finding = { is: 'of-another', found: 'is of another kernel, which had the same ring' };

function lost(found: string): Finding {
  return { is: 'lost', found };
}

function headerProblem(words: Int32Array): string | undefined {
  if (words.length < HEADER_WORDS) return 'is cut short';
  const version = words[Header.magic] === MAGIC_1 ? 1 : words[Header.version];
  if (words[Header.magic] !== MAGIC && version !== 1) return 'is no journal of requests';
  if (version !== VERSION) return `is of version ${version}, and this xen-blockd knows version ${VERSION}`;
  if (words[Header.sum] !== headerSum(words)) return 'is damaged: its header';
  const bytes = journalBytes({ slots: words[Header.slots], slotWords: words[Header.slotWords] });
  return words.byteLength < bytes ? 'is cut short' : undefined;
}

function isOfConnection(words: Int32Array, ring: JournalRing): boolean {
  const header = new Int32Array(HEADER_WORDS);
  writeHeader(header, ring, 0);
  return words[Header.sum] === header[Header.sum];
}

class Entries {
  readonly #words: Int32Array;
  readonly #ring: JournalRing;
  readonly #back: BackRing;
  readonly #rspProd: number;
  /** Those whose requests were taken and not answered, good or damaged. */
  readonly #left: number[] = [];
  /** By ring index, of good entries. */
  readonly #taken = new Set<number>();
  /** How many answers may have been put behind those that were published, in this life or one before. */
  #put: number;
  readonly #damaged: number[] = [];

  constructor(words: Int32Array, ring: JournalRing, back: BackRing) {
    this.#words = words;
    this.#ring = ring;
    this.#back = back;
    this.#rspProd = back.responsesProduced;
    const put = checkedWord(words, Header.put);
    const ahead = put === undefined ? ring.slots : (put - this.#rspProd) >>> 0;
    this.#put = ahead <= ring.slots ? ahead : 0;
  }

  examine(): Finding {
    for (let i = 0; i < this.#ring.slots; i++) {
      const problem = this.#add(entryAt(i, this.#ring.slotWords));
      if (problem !== undefined) return lost(problem);
    }
    // The ring of another kernel is new, and has fewer requests or other ones.
    if (this.#rspProd === 0 && this.#isOfAnotherKernel()) return OF_ANOTHER_KERNEL;
    if (this.#left.length > this.#back.waiting) {
      return lost(`has ${this.#left.length} requests in flight, and the ring ${this.#back.waiting}`);
    }
    const mended = this.#mend();
    if (!mended) return lost('is damaged: a request in flight');
    if (!this.#isConsistent(mended)) return lost('is damaged: its entries contradict each other');
    return { is: 'good', left: this.#inOrder(mended), put: this.#rspProd + this.#put, mended };
  }

  /** Says what is wrong with an entry that cannot even be told to be in flight. */
  #add(at: number): string | undefined {
    const words = this.#words;
    const state = words[at + Entry.state];
    const answered = checkedWord(words, at + Entry.answered);
    // One that was never used was never answered.
    if (state === State.free) return answered === undefined ? undefined : 'is damaged: the state of an entry';
    if (state === State.answered) {
      if (answered === undefined) return 'is damaged: the index of an answer';
    } else if (state !== State.taken) return 'is damaged: the state of an entry';
    // Answers that were put and not published are the next ones of the ring; all others are of the past, at any age.
    const ahead = answered === undefined ? this.#ring.slots : (answered - this.#rspProd) >>> 0;
    if (ahead < this.#ring.slots) this.#put = Math.max(this.#put, ahead + 1);
    else if (state === State.answered) return undefined;
    this.#left.push(at);
    const index = words[at + Entry.taken] >>> 0;
    if (!this.#isWhole(at)) this.#damaged.push(at);
    else if (this.#taken.has(index)) return 'is damaged: a request is in it twice';
    else this.#taken.add(index);
    return undefined;
  }

  #isWhole(at: number): boolean {
    const words = this.#words;
    const sum = slotSum(words, at + ENTRY_WORDS, this.#ring.slotWords, words[at + Entry.taken]);
    return sum === words[at + Entry.sum];
  }

  #isOfAnotherKernel(): boolean {
    // An entry that is damaged may be of no request at all: with it, nothing follows from their number.
    if (this.#left.length > this.#back.waiting) return this.#damaged.length === 0;
    return this.#left.some((at) => !this.#damaged.includes(at) && !this.#isInSlot(at));
  }

  /** Whether the ring holds an entry's request, as far as its slot belongs to it and has no response in it. */
  #isInSlot(at: number): boolean {
    const index = this.#words[at + Entry.taken] >>> 0;
    const ahead = (index - this.#rspProd) >>> 0;
    if (ahead >= this.#ring.slots) return true;
    const from = ahead < this.#put ? RESPONSE_WORDS : 0;
    return this.#slot(index).every((word, i) => i < from || word === this.#words[at + ENTRY_WORDS + i]);
  }

  #slot(index: number): Int32Array {
    const slot = new Int32Array(this.#ring.slotWords);
    this.#back.peekRequest(index, slot, 0);
    return slot;
  }

  /** Finds the slots that still have the requests of damaged entries; undefined: not for all. */
  #mend(): MendedEntry[] | undefined {
    const mended: MendedEntry[] = [];
    const taken = new Set(this.#taken);
    for (const entry of this.#damaged) {
      const found = this.#findSlot(entry, taken);
      if (!found) return undefined;
      taken.add(found.index);
      mended.push(found);
    }
    return mended;
  }

  /** Two of an entry's three parts, request, index and checksum, must be as the ring has them. */
  #findSlot(entry: number, taken: ReadonlySet<number>): MendedEntry | undefined {
    const words = this.#words;
    for (let ahead = 0; ahead < Math.min(this.#back.waiting, this.#ring.slots); ahead++) {
      const index = (this.#rspProd + ahead) >>> 0;
      if (taken.has(index)) continue;
      const slot = this.#slot(index);
      const isSummed = slotSum(slot, 0, slot.length, index) === words[entry + Entry.sum];
      const isCopied = slot.every((word, i) => word === words[entry + ENTRY_WORDS + i]);
      const isTaken = index === words[entry + Entry.taken] >>> 0;
      if ([isSummed, isCopied, isTaken].filter(Boolean).length >= 2) return { entry, index, slot };
    }
    return undefined;
  }

  /**
   * Requests are taken one after the other, so that the last one is as far ahead of the ring's answers as there are
   * requests in flight, and none is beyond it but one whose note may have begun. Entries come into use one after the
   * other, so that a free one before one in use has lost its state, as has a free one with a request.
   */
  #isConsistent(mended: readonly MendedEntry[]): boolean {
    const words = this.#words;
    const { slots, slotWords } = this.#ring;
    const last = this.#rspProd + this.#left.length - 1;
    let isUnused = false;
    let reached = this.#left.length === 0 || mended.some(({ index }) => index === last >>> 0);
    for (let i = 0; i < slots; i++) {
      const at = entryAt(i, slotWords);
      const ahead = (words[at + Entry.taken] - last) >>> 0;
      if (words[at + Entry.state] === State.free) {
        // But for the request whose note has begun, however long ago the others were taken.
        if (ahead !== 1 && this.#isWhole(at)) return false;
        isUnused = true;
        continue;
      }
      if (isUnused) return false;
      // The note may have begun in the very entry that was the last one's.
      const most = this.#left.includes(at) ? 0 : 1;
      if (ahead <= most) reached = true;
      else if (ahead < 2 * slots && this.#isWhole(at)) return false;
    }
    return reached;
  }

  /** As they were taken. */
  #inOrder(mended: readonly MendedEntry[]): Int32Array {
    const next = this.#rspProd + this.#left.length;
    const ages = new Map(this.#left.map((at) => [at, (next - this.#words[at + Entry.taken]) >>> 0]));
    for (const { entry, index } of mended) ages.set(entry, (next - index) >>> 0);
    return Int32Array.from(this.#left.sort((a, b) => ages.get(b)! - ages.get(a)!));
  }
}
