/**
 * The requests of one ring that were taken and not answered, in a file's memory, which outlives this process however it
 * ends. Responses reuse ring slots in completion order and may overwrite requests still in flight, so that the successor
 * of a killed process needs its own copy of each.
 *
 * In come the slot of each taken request and the ring index of each response; out come, for the next process, the
 * requests whose response was not published. What must hold at every instant, because a kill may come then:
 * - A request is noted before anything is done for it.
 * - Before a response can be seen, its entry says at which index of the ring it will be; whether the frontend was shown
 *   it is then a matter of the shared producer index.
 * - An entry's state is written last when it is taken. Until then it is free, or still says that it was answered, at an
 *   index that was published before.
 * - The header says up to which index answers were published, and before that up to which they are about to be: the
 *   shared producer index of this connection is always one of the two.
 * What never happens: an entry of another connection, or of another frontend, that is carried out.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import type { BackRing } from '@xenpv/ring';
import { mapSharedFile, type SharedFile } from '@xenpv/xen-sys';
import { XenBlockError } from '../../errors.js';

const MAGIC = 0x314a4258; // "XBJ1"
const HEADER_WORDS = 16;
const Header = { magic: 0, slots: 1, slotWords: 2, eventChannel: 3, refs: 4, publishing: 5, published: 6 } as const;
/** Words of the header that say which connection it is of. */
const IDENTITY_WORDS = 5;

/** Words of an entry before the request's own. */
const ENTRY_WORDS = 3;
const Entry = { state: 0, taken: 1, answered: 2 } as const;
const State = { free: 0, taken: 1, answered: 2 } as const;

/** Words at the start of a slot that a response may be written over: 16 bytes in all ABIs. */
const RESPONSE_WORDS = 4;

/** Where a ring's journal is, and whether its contents count. */
export interface JournalOptions {
  readonly path: string;
  /** An earlier process served this very connection: the requests that it left unanswered are to be carried out. */
  readonly adopt: boolean;
}

/** Which connection of a frontend a journal is about. */
export interface JournalRing {
  readonly slots: number;
  readonly slotWords: number;
  readonly refs: Uint32Array;
  readonly eventChannel: number;
}

export class RingJournal {
  readonly #file: SharedFile;
  readonly #header: Int32Array;
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

  private constructor(file: SharedFile, { slots, slotWords }: JournalRing, header: Int32Array) {
    this.#file = file;
    this.#header = header;
    this.#words = new Int32Array(file.buffer);
    this.#slots = slots;
    this.#slotWords = slotWords;
    this.#free = new Int32Array(slots);
  }

  /**
   * `rspProd` is the shared index up to which answers were published.
   * Errors: ERR_JOURNAL, the file cannot be made or mapped.
   */
  static open({ path, adopt }: JournalOptions, ring: JournalRing, rspProd: number): RingJournal {
    const bytes = 4 * (HEADER_WORDS + ring.slots * (ENTRY_WORDS + ring.slotWords));
    let file: SharedFile;
    try {
      file = mapSharedFile(path, bytes);
    } catch (cause) {
      throw new XenBlockError('ERR_JOURNAL', 'connect', (cause as Error).message, { path, cause });
    }
    const header = headerOf(ring);
    const journal = new RingJournal(file, ring, header);
    const known = header.every((word, i) => i >= IDENTITY_WORDS || journal.#words[i] === word);
    if (!(adopt && known)) journal.clear(rspProd);
    return journal;
  }

  /**
   * Whether the entries can be of this ring, which was just attached. A kernel that is booted anew in place may connect
   * with the ring page and the event channel of the one before: its ring has not come so far, or holds other requests.
   * What lies in slots that it has not reached is of the kernel before.
   */
  isOf(ring: BackRing): boolean {
    const words = this.#words;
    const rspProd = ring.responsesProduced;
    if (!this.#hasPublished(rspProd)) return false;
    let left = 0;
    for (let i = 0; i < this.#slots; i++) if (this.#isLeft(this.#at(i), rspProd)) left++;
    if (left === 0) return true;
    if (left > ring.waiting) return false;
    // Requests are taken one after the other: the last one is right before the next, of which a note may have begun.
    const last = rspProd + left - 1;
    let reached = false;
    for (let i = 0; i < this.#slots; i++) {
      const at = this.#at(i);
      if (words[at + Entry.state] === State.free) continue;
      const ahead = (words[at + Entry.taken] - last) >>> 0;
      if (ahead <= 1) reached = true;
      else if (ahead < 2 * this.#slots) return false;
      if (this.#isLeft(at, rspProd) && !this.#isInSlot(at, ring)) return false;
    }
    return reached;
  }

  /** Makes it the journal of a new connection, whose answers are published up to `rspProd`. */
  clear(rspProd: number): void {
    const words = this.#words;
    // It is none while its magic number is not there.
    Atomics.store(words, Header.magic, 0);
    words.fill(0);
    words.set(this.#header.subarray(Header.magic + 1), Header.magic + 1);
    words[Header.publishing] = words[Header.published] = rspProd;
    Atomics.store(words, Header.magic, MAGIC);
  }

  /**
   * The requests that an earlier process left unanswered, in the order in which it took them, as first words of their
   * slots in `words`. `rspProd` is the shared index up to which answers were published. To be called once, first.
   */
  adopt(rspProd: number): Int32Array {
    const words = this.#words;
    const left: number[] = [];
    for (let i = 0; i < this.#slots; i++) {
      const at = this.#at(i);
      if (this.#isLeft(at, rspProd)) left.push(at);
      else this.#giveBack(at);
    }
    // That index means nothing to the next life, which may be killed too.
    for (const at of left) Atomics.store(words, at + Entry.state, State.taken);
    this.publishing(rspProd);
    this.published(rspProd);
    const next = rspProd + left.length;
    const age = (at: number) => (next - words[at + Entry.taken]) >>> 0;
    left.sort((a, b) => age(b) - age(a));
    return Int32Array.from(left);
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
    const to = at + ENTRY_WORDS;
    for (let i = 0; i < this.#slotWords; i++) words[to + i] = source[from + i];
    Atomics.store(words, at + Entry.state, State.taken);
    return at;
  }

  /** The answer to an entry's request is about to be put at ring index `index`, and published before another take. */
  answer(entry: number, index: number): void {
    this.#words[entry + Entry.answered] = index;
    Atomics.store(this.#words, entry + Entry.state, State.answered);
    this.#giveBack(entry);
  }

  /** Answers up to index `rspProd` are about to be published. */
  publishing(rspProd: number): void {
    Atomics.store(this.#words, Header.publishing, rspProd | 0);
  }

  /** Answers up to index `rspProd` are published. */
  published(rspProd: number): void {
    Atomics.store(this.#words, Header.published, rspProd | 0);
  }

  /** Ends its use by this process: the requests that are noted are left to the next one. */
  leave(): void {
    this.#file.close();
  }

  /** Ends the journal of a ring that has no request in flight. */
  close(): void {
    this.#file.close();
    rmSync(this.#file.path, { force: true });
  }

  #hasPublished(rspProd: number): boolean {
    const words = this.#words;
    return words[Header.published] === (rspProd | 0) || words[Header.publishing] === (rspProd | 0);
  }

  /** Whether its request was taken and its answer not published. `rspProd` is the shared index. */
  #isLeft(at: number, rspProd: number): boolean {
    const state = this.#words[at + Entry.state];
    if (state !== State.answered) return state === State.taken;
    // Answers that were put and not published are the next ones of the ring; all others are of the past, at any age.
    return (this.#words[at + Entry.answered] - rspProd) >>> 0 < this.#slots;
  }

  /** Whether the ring holds an entry's request, as far as its slot belongs to it and has no response in it. */
  #isInSlot(at: number, ring: BackRing): boolean {
    const index = this.#words[at + Entry.taken];
    if ((index - ring.responsesProduced) >>> 0 >= this.#slots) return true;
    const slot = new Int32Array(this.#slotWords);
    ring.peekRequest(index, slot, 0);
    return slot.every((word, i) => i < RESPONSE_WORDS || word === this.#words[at + ENTRY_WORDS + i]);
  }

  #giveBack(entry: number): void {
    this.#free[this.#freeTo] = entry;
    this.#freeTo = (this.#freeTo + 1) & (this.#slots - 1);
  }

  #at(entry: number): number {
    return HEADER_WORDS + entry * (ENTRY_WORDS + this.#slotWords);
  }
}

/** Where the journal of a queue of a device is kept. */
export function journalPath(directory: string, device: string, queue: number): string {
  return join(directory, `${device}-${queue}`);
}

function headerOf({ slots, slotWords, refs, eventChannel }: JournalRing): Int32Array {
  const header = new Int32Array(HEADER_WORDS);
  header[Header.magic] = MAGIC;
  header[Header.slots] = slots;
  header[Header.slotWords] = slotWords;
  header[Header.eventChannel] = eventChannel;
  header[Header.refs] = refs.reduce((hash, ref) => Math.imul(hash ^ ref, 0x01000193), 0x811c9dc5 | 0);
  return header;
}
