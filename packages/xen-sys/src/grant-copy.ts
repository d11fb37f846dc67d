import type { Domid, Gref } from './numbers.js';
/** GNTST_*: the status of one grant operation (public/grant_table.h). */
export const GrantStatus = {
  okay: 0,
  generalError: -1,
  badDomain: -2,
  badGntref: -3,
  badHandle: -4,
  badVirtAddr: -5,
  badDevAddr: -6,
  noDeviceSpace: -7,
  permissionDenied: -8,
  badPage: -9,
  badCopyArg: -10,
  addressTooBig: -11,
  eagain: -12,
  noSpace: -13,
} as const;

/** Bytes of one segment: `struct gntdev_grant_copy_segment` of Linux's gntdev.h on a 64-bit machine. */
export const GRANT_COPY_SEGMENT_BYTES = 24;

/** GNTCOPY_*_gref: which sides of a segment are grants. */
export const GrantCopyFlag = { sourceIsGrant: 1, destIsGrant: 2 } as const;

/** Words: of one segment, from its first, and from the first of a side. */
export const GrantCopyWord = {
  segment: GRANT_COPY_SEGMENT_BYTES / 4,
  source: 0,
  dest: 2,
  /** Length u16, then flags u16. */
  length: 4,
  status: 5,
  ref: 0,
  /** Offset in the page u16, then domain u16. */
  place: 1,
  addressLow: 0,
  addressHigh: 1,
} as const;

// Plain numbers: code that is not optimized yet looks up each property, for every segment.
const { segment: WORDS, length: LENGTH, status: STATUS } = GrantCopyWord;
const SOURCE_IS_GRANT = GrantCopyFlag.sourceIsGrant << 16;
const DEST_IS_GRANT = GrantCopyFlag.destIsGrant << 16;
const TWO_32 = 2 ** 32;

/**
 * A batch of grant-copy segments in the kernel's own layout, filled and sent without allocating.
 *
 * A segment, 24 bytes: source (8), destination (8), length u16, flags u16, status s16, padding.
 * A local side is a 64-bit address, see {@link GrantTable.register}: the batch's base, given once, and a place counted
 * from there. A foreign side is grant reference u32, offset in the page u16, domain u16. A segment must stay inside the
 * foreign page; the local side need not. Nothing is checked here: whoever carries out the batch does, by the
 * functions below, which read `words` at a segment, `GrantCopyWord.segment * index`, or at one of its sides.
 *
 * @example
 * ```ts
 * import { GrantCopyBatch, nativeProvider } from '@xenpv/xen-sys';
 *
 * const grants = nativeProvider().openGrantTable();
 * const batch = new GrantCopyBatch(1, grants.register(new ArrayBuffer(4096)));
 * batch.fromGrant(5, 8, 0, 0, 4096); // of domain 5, grant 8, from byte 0 to byte 0, a page
 * if (grants.copy(batch) === 0) console.log(batch.status(0)); // 0, or a negative GrantStatus
 * grants.close();
 * ```
 */
export class GrantCopyBatch {
  /** The segments. `words[i * 6 ..]` is segment i. */
  readonly words: Uint32Array;
  readonly capacity: number;
  /** Segments filled so far. */
  count = 0;
  readonly #statuses: Int16Array;
  readonly #base: number;
  readonly #baseLow: number;
  readonly #baseHigh: number;

  constructor(capacity: number, base = 0) {
    this.capacity = capacity;
    this.words = new Uint32Array(capacity * WORDS);
    this.#statuses = new Int16Array(this.words.buffer);
    this.#base = base;
    this.#baseLow = base | 0;
    this.#baseHigh = Math.floor(base / TWO_32);
  }

  /** Begins an empty batch. */
  clear(): void {
    this.count = 0;
  }

  /** Appends a copy of `length` bytes from the grant `ref` of `domid` at `offset` to the local `place`. */
  fromGrant(domid: Domid, ref: Gref, offset: number, place: number, length: number): void {
    const { words } = this;
    const at = this.count++ * WORDS;
    words[at] = ref;
    words[at + 1] = offset | (domid << 16);
    this.#setLocal(at + 2, place);
    words[at + LENGTH] = length | SOURCE_IS_GRANT;
    words[at + STATUS] = 0;
  }

  /** Appends a copy of `length` bytes from the local `place` to the grant `ref` of `domid` at `offset`. */
  toGrant(domid: Domid, ref: Gref, offset: number, place: number, length: number): void {
    const { words } = this;
    const at = this.count++ * WORDS;
    this.#setLocal(at, place);
    words[at + 2] = ref;
    words[at + 3] = offset | (domid << 16);
    words[at + LENGTH] = length | DEST_IS_GRANT;
    words[at + STATUS] = 0;
  }

  /** Writes the address of a place, with integers where they do: numbers with a fraction part cost several times more. */
  #setLocal(at: number, place: number): void {
    const { words } = this;
    if ((place | 0) === place && place >= 0) {
      const low = (this.#baseLow + place) | 0;
      words[at] = low;
      words[at + 1] = this.#baseHigh + (low >>> 0 < this.#baseLow >>> 0 ? 1 : 0);
      return;
    }
    const address = this.#base + place;
    words[at] = address;
    words[at + 1] = Math.floor(address / TWO_32);
  }

  /** The status of segment `index` after the copy: a {@link GrantStatus}. */
  status(index: number): number {
    return this.#statuses[(index * WORDS + STATUS) * 2];
  }
}

/** {@link GrantCopyFlag} bits of the segment at `words[at ..]`: which sides are grants. */
export function copyFlags(words: Uint32Array, at: number): number {
  return words[at + GrantCopyWord.length] >>> 16;
}

/** Bytes to be copied by the segment at `words[at ..]`. */
export function copyLength(words: Uint32Array, at: number): number {
  return words[at + GrantCopyWord.length] & 0xffff;
}

/** The grant reference of a side that is a grant. */
export function grantRef(words: Uint32Array, side: number): Gref {
  return words[side + GrantCopyWord.ref];
}

/** Where in its page a side that is a grant begins, in bytes: 0 to 65535 as it comes. */
export function grantOffset(words: Uint32Array, side: number): number {
  return words[side + GrantCopyWord.place] & 0xffff;
}

/** The domain of a side that is a grant. */
export function grantDomid(words: Uint32Array, side: number): Domid {
  return words[side + GrantCopyWord.place] >>> 16;
}

/** The lower half of the address of a local side. */
export function localLow(words: Uint32Array, side: number): number {
  return words[side + GrantCopyWord.addressLow];
}

/** The upper half of the address of a local side. */
export function localHigh(words: Uint32Array, side: number): number {
  return words[side + GrantCopyWord.addressHigh];
}

/** Sets the status of the segment at `words[at ..]`, a {@link GrantStatus}. */
export function setCopyStatus(words: Uint32Array, at: number, status: number): void {
  words[at + GrantCopyWord.status] = status & 0xffff;
}
