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
 * - An entry's state is written last when it is taken, and first when it is taken anew.
 * What never happens: an entry of another connection, or of another frontend, that is carried out.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { mapSharedFile, type SharedFile } from '@xenpv/xen-sys';
import { XenBlockError } from '../../errors.js';

const MAGIC = 0x314a4258; // "XBJ1"
const HEADER_WORDS = 16;
const Header = { magic: 0, slots: 1, slotWords: 2, eventChannel: 3, refs: 4 } as const;

/** Words of an entry before the request's own. */
const ENTRY_WORDS = 3;
const Entry = { state: 0, taken: 1, answered: 2 } as const;
const State = { free: 0, taken: 1, answered: 2 } as const;

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
  readonly #words: Int32Array;
  readonly #slots: number;
  readonly #slotWords: number;
  /** Free entries, as a stack of their first words. */
  readonly #free: Int32Array;
  #freeCount = 0;

  private constructor(file: SharedFile, { slots, slotWords }: JournalRing) {
    this.#file = file;
    this.#words = new Int32Array(file.buffer);
    this.#slots = slots;
    this.#slotWords = slotWords;
    this.#free = new Int32Array(slots);
  }

  /** Errors: ERR_JOURNAL, the file cannot be made or mapped. */
  static open({ path, adopt }: JournalOptions, ring: JournalRing): RingJournal {
    const bytes = 4 * (HEADER_WORDS + ring.slots * (ENTRY_WORDS + ring.slotWords));
    let file: SharedFile;
    try {
      file = mapSharedFile(path, bytes);
    } catch (cause) {
      throw new XenBlockError('ERR_JOURNAL', 'connect', (cause as Error).message, { path, cause });
    }
    const journal = new RingJournal(file, ring);
    const header = headerOf(ring);
    const known = header.every((word, i) => journal.#words[i] === word);
    if (!(adopt && known)) journal.#words.fill(0);
    journal.#words.set(header);
    return journal;
  }

  /**
   * The requests that an earlier process left unanswered, in the order in which it took them, as first words of their
   * slots in `words`. `rspProd` is the shared index up to which answers were published. To be called once, first.
   */
  adopt(rspProd: number): Int32Array {
    const words = this.#words;
    const left: number[] = [];
    for (let at = this.#at(this.#slots - 1); at >= HEADER_WORDS; at -= ENTRY_WORDS + this.#slotWords) {
      const state = words[at + Entry.state];
      const published = state === State.answered && ((words[at + Entry.answered] - rspProd) | 0) < 0;
      if (state === State.free || published) {
        this.#free[this.#freeCount++] = at;
        continue;
      }
      // Its answer was put and not published: that index means nothing to the next life, which may be killed too.
      Atomics.store(words, at + Entry.state, State.taken);
      left.push(at);
    }
    left.sort((a, b) => ((words[a + Entry.taken] - rspProd) | 0) - ((words[b + Entry.taken] - rspProd) | 0));
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
    const at = this.#free[--this.#freeCount];
    Atomics.store(words, at + Entry.state, State.free);
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
    this.#free[this.#freeCount++] = entry;
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
