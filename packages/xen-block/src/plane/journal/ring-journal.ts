/**
 * The requests of one ring that were taken and not answered, in a file's memory, which outlives this process however it
 * ends. Responses reuse ring slots in completion order and may overwrite requests still in flight, so that the successor
 * of a killed process needs its own copy of each.
 *
 * In come the slot of each taken request and the ring index of each response; out come, for the next process, the
 * requests whose response was not published (examine.ts). What must hold at every instant, because a kill may come then:
 * - A request is noted before anything is done for it.
 * - Before a response can be seen, its entry says at which index of the ring it will be; whether the frontend was shown
 *   it is then a matter of the shared producer index.
 * - An entry's state is written last when it is taken. Until then it is free, or still says that it was answered, at an
 *   index that was published before.
 * - The header says up to which index answers were published, and before that up to which they are about to be: the
 *   shared producer index of this connection is always one of the two.
 * - The file stays when its process stops, and is replaced as a whole for another connection: a ring that was served has
 *   one, so that a clean stop is known from a journal that was lost.
 * What never happens: an entry of another connection, or of another frontend, that is carried out.
 */
import { join } from 'node:path';
import type { SharedFile } from '@xenpv/xen-sys';
import { createJournalFile, removeJournalFile } from './journal-file.js';
import {
  ENTRY_WORDS,
  Entry,
  entryAt,
  Header,
  type JournalRing,
  joinSum,
  journalBytes,
  State,
  SUM_EVEN,
  SUM_ODD,
  SUM_PRIME,
  slotSum,
  writeHeader,
} from './layout.js';
import { nextLife, type Tries, triesOf, working } from './tries.js';

/** What was found out about a journal that is adopted. */
export interface Adoption {
  /** The ring's shared index up to which answers were published. */
  readonly rspProd: number;
  /** Up to which index answers may have been put. */
  readonly put: number;
  /** The entries whose requests are to be carried out again. */
  readonly left: Int32Array;
}

export class RingJournal {
  readonly #path: string;
  readonly #file: SharedFile;
  readonly #words: Int32Array;
  readonly #slots: number;
  readonly #slotWords: number;
  /**
   * Free entries by their first words, used in turn: what an entry says of its answer is never older than a few rounds
   * of the ring, so that the ring's indices, which come again after 2^32, mean one answer only.
   */
  readonly #free: Int32Array;
  #freeFrom = 0;
  #freeTo = 0;

  private constructor(path: string, file: SharedFile, { slots, slotWords }: JournalRing) {
    this.#path = path;
    this.#file = file;
    this.#words = new Int32Array(file.buffer);
    this.#slots = slots;
    this.#slotWords = slotWords;
    this.#free = new Int32Array(slots);
  }

  /**
   * A new connection's, or of one whose requests in flight nobody knows. `rspProd` is the ring's shared index up to which
   * answers were published. Errors: ERR_JOURNAL, the file cannot be made or mapped.
   */
  static create(path: string, ring: JournalRing, rspProd: number): RingJournal {
    const file = createJournalFile(path, journalBytes(ring), (words) => writeHeader(words, ring, rspProd));
    const journal = new RingJournal(path, file, ring);
    for (let i = 0; i < ring.slots; i++) journal.#giveBack(entryAt(i, ring.slotWords));
    return journal;
  }

  /** Goes on with one that was found good. */
  static adopt(path: string, file: SharedFile, ring: JournalRing, { rspProd, put, left }: Adoption): RingJournal {
    const journal = new RingJournal(path, file, ring);
    const words = journal.#words;
    journal.#storeIndex(Header.put, put);
    // An index of an answer means nothing to the next life, which may be killed too.
    for (const at of left) journal.#setTaken(at);
    journal.publishing(rspProd);
    journal.published(rspProd);
    const inUse = new Set(left);
    for (let i = 0; i < ring.slots; i++) {
      const at = entryAt(i, ring.slotWords);
      if (inUse.has(at)) continue;
      if (words[at + Entry.state] === State.free) journal.#spoil(at);
      journal.#giveBack(at);
    }
    return journal;
  }

  /** Copies the slot of an adopted entry to `target[at ..]`. */
  copySlot(entry: number, target: Int32Array, at: number): void {
    const from = entry + ENTRY_WORDS;
    for (let i = 0; i < this.#slotWords; i++) target[at + i] = this.#words[from + i];
  }

  /** Notes the request whose slot is at `source[from ..]`, taken at ring index `index`; returns its entry. */
  take(source: Int32Array, from: number, index: number): number {
    const words = this.#words;
    const at = this.#free[this.#freeFrom];
    this.#freeFrom = (this.#freeFrom + 1) & (this.#slots - 1);
    words[at + Entry.taken] = index;
    words[at + Entry.tries] = 0;
    const to = at + ENTRY_WORDS;
    // slotSum, while the words are at hand.
    let even = SUM_EVEN ^ index;
    let odd = SUM_ODD;
    for (let i = 0; i < this.#slotWords; i++) {
      const word = source[from + i];
      words[to + i] = word;
      const mixed = Math.imul(even ^ word, SUM_PRIME);
      even = odd;
      odd = mixed ^ (mixed >>> 15);
    }
    words[at + Entry.sum] = joinSum(even, odd);
    this.#setTaken(at);
    return at;
  }

  /** The answer to an entry's request is about to be put at ring index `index`, and published before another take. */
  answer(entry: number, index: number): void {
    const words = this.#words;
    words[entry + Entry.answered] = index;
    words[entry + Entry.answered + 1] = ~index;
    Atomics.store(words, entry + Entry.state, State.answered);
    this.#giveBack(entry);
  }

  /** Answers up to index `rspProd` are about to be published. */
  publishing(rspProd: number): void {
    this.#storeIndex(Header.publishing, rspProd);
  }

  /** Answers up to index `rspProd` are published. */
  published(rspProd: number): void {
    this.#storeIndex(Header.published, rspProd);
  }

  /** What the processes before this one have left of an adopted entry's request. */
  triesOf(entry: number): Tries {
    return triesOf(this.#words[entry + Entry.tries]);
  }

  /** This process begins to carry an adopted entry's request out. */
  beginLife(entry: number): void {
    Atomics.store(this.#words, entry + Entry.tries, nextLife(this.#words[entry + Entry.tries]));
  }

  /** Code of ours works on an adopted entry's request from now on, or does so no more: a death meanwhile is its strike. */
  markWorking(entry: number, works: 'works' | 'rests'): void {
    Atomics.store(this.#words, entry + Entry.tries, working(this.#words[entry + Entry.tries], works));
  }

  /** Ends its use by this process: the requests that are noted, if any, are left to the next one. */
  leave(): void {
    this.#file.close();
  }

  /** The connection is over. */
  close(): void {
    this.#file.close();
    removeJournalFile(this.#path);
  }

  /**
   * The index of the answer before loses its complement: should the state be damaged, it is not the answer's to this
   * request.
   */
  #setTaken(entry: number): void {
    const words = this.#words;
    Atomics.store(words, entry + Entry.state, State.taken);
    words[entry + Entry.answered + 1] = words[entry + Entry.answered];
  }

  /** Torn between the two stores, it is known to be so. */
  #storeIndex(at: number, index: number): void {
    this.#words[at + 1] = ~index;
    Atomics.store(this.#words, at, index | 0);
  }

  /** A note may have begun here: its request will be noted elsewhere, and is none whose entry has lost its state. */
  #spoil(entry: number): void {
    const words = this.#words;
    words[entry + Entry.sum] = ~slotSum(words, entry + ENTRY_WORDS, this.#slotWords, words[entry + Entry.taken]);
  }

  #giveBack(entry: number): void {
    this.#free[this.#freeTo] = entry;
    this.#freeTo = (this.#freeTo + 1) & (this.#slots - 1);
  }
}

/** Where the journal of a queue of a device is kept. */
export function journalPath(directory: string, device: string, queue: number): string {
  return join(directory, `${device}-${queue}`);
}
