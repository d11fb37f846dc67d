/**
 * The layout of a ring's journal, in 32-bit words of the machine's own order: a header, then an entry for each slot of
 * the ring. Magic number and version are where they are in every version.
 *
 * What is damaged is found out: the words that say which connection it is of have a checksum, each entry has one over its
 * request and the index that it was taken at, and the other words have their complement beside them.
 */

export const MAGIC = 0x4a72_6e58; // "XnrJ"
export const VERSION = 2;
/** The magic number of version 1. */
export const MAGIC_1 = 0x314a4258; // "XBJ1"

export const HEADER_WORDS = 16;
export const Header = {
  magic: 0,
  version: 1,
  /** Over the words that say which connection it is of. */
  sum: 2,
  slots: 3,
  slotWords: 4,
  eventChannel: 5,
  /** A hash of the grant references. */
  refs: 6,
  /** Up to which index answers are about to be published, and its complement. */
  publishing: 7,
  /** Up to which index answers are published, and its complement. */
  published: 9,
  /** Up to which index earlier lives may have put answers, and its complement. */
  put: 11,
} as const;

/** Words of an entry before the request's own. */
export const ENTRY_WORDS = 6;
export const Entry = {
  state: 0,
  /** The ring index of the request. */
  taken: 1,
  /** Over the request and `taken`. */
  sum: 2,
  /** The ring index of its answer, and its complement. */
  answered: 3,
  /** What it has cost to carry it out again: see Tries. */
  tries: 5,
} as const;
export const State = { free: 0, taken: 0x6e6b_6174, answered: 0x7264_6e61 } as const;

/** Words at the start of a slot that a response may be written over: 16 bytes in all ABIs. */
export const RESPONSE_WORDS = 4;

/** Which connection of a frontend a journal is about. */
export interface JournalRing {
  readonly slots: number;
  readonly slotWords: number;
  readonly refs: Uint32Array;
  readonly eventChannel: number;
}

export function journalBytes({ slots, slotWords }: Pick<JournalRing, 'slots' | 'slotWords'>): number {
  return 4 * (HEADER_WORDS + slots * (ENTRY_WORDS + slotWords));
}

/** The first word of an entry. */
export function entryAt(entry: number, slotWords: number): number {
  return HEADER_WORDS + entry * (ENTRY_WORDS + slotWords);
}

/** Writes the header of a journal without entries, whose answers are published up to `rspProd`. */
export function writeHeader(words: Int32Array, ring: JournalRing, rspProd: number): void {
  words[Header.magic] = MAGIC;
  words[Header.version] = VERSION;
  words[Header.slots] = ring.slots;
  words[Header.slotWords] = ring.slotWords;
  words[Header.eventChannel] = ring.eventChannel;
  words[Header.refs] = ring.refs.reduce((hash, ref) => Math.imul(hash ^ ref, 0x01000193), 0x811c9dc5 | 0);
  words[Header.sum] = headerSum(words);
  for (const at of [Header.publishing, Header.published, Header.put]) {
    words[at] = rspProd;
    words[at + 1] = ~rspProd;
  }
}

export function headerSum(words: Int32Array): number {
  const identity = Int32Array.of(words[Header.magic], words[Header.version], ...words.subarray(Header.slots, 7));
  return slotSum(identity, 0, identity.length, 0);
}

/** The value at a word with its complement behind it, as u32; undefined if one of the two is not as it was written. */
export function checkedWord(words: Int32Array, at: number): number | undefined {
  return words[at] === ~words[at + 1] ? words[at] >>> 0 : undefined;
}

/** The checksum of a request of `count` words from `source[from]` on that was taken at `index`. */
export function slotSum(source: Int32Array, from: number, count: number, index: number): number {
  let even = SUM_EVEN ^ index;
  let odd = SUM_ODD;
  for (let i = 0; i < count; i++) {
    const mixed = Math.imul(even ^ source[from + i], SUM_PRIME);
    even = odd;
    odd = mixed ^ (mixed >>> 15);
  }
  return joinSum(even, odd);
}

/** What {@link slotSum} is made of, for who copies the words at the same time. */
export const SUM_EVEN = 0x9e3779b9 | 0;
export const SUM_ODD = 0x7f4a7c15;
export const SUM_PRIME = 0x85ebca6b | 0;
export function joinSum(even: number, odd: number): number {
  const mixed = Math.imul(even ^ (odd << 13) ^ (odd >>> 19), 0xc2b2ae35 | 0);
  return mixed ^ (mixed >>> 16);
}
