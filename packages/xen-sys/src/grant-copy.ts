import type { Domid, Gref } from './numbers.js';
/** GNTST_*: the status of one grant operation (public/grant_table.h). */
export const GrantStatus = {
  /** GNTST_okay. */
  okay: 0,
  /** GNTST_general_error: what has no status of its own, such as a page granted to another domain, or read-only. */
  generalError: -1,
  /** GNTST_bad_domain: there is no such domain. */
  badDomain: -2,
  /** GNTST_bad_gntref: the granting domain's table has no such entry. */
  badGntref: -3,
  /** GNTST_bad_handle: of unmapping, no mapping has this handle. */
  badHandle: -4,
  /** GNTST_bad_virt_addr: of mapping and unmapping, the virtual address does not fit. */
  badVirtAddr: -5,
  /** GNTST_bad_dev_addr: of unmapping, the device address does not fit. */
  badDevAddr: -6,
  /** GNTST_no_device_space: the IOMMU has no room for the mapping. */
  noDeviceSpace: -7,
  /** GNTST_permission_denied: this domain is not privileged enough. */
  permissionDenied: -8,
  /** GNTST_bad_page: the page cannot be used so. Linux also says it once it has given up on `eagain`. */
  badPage: -9,
  /** GNTST_bad_copy_arg: a side of the copy crosses the end of its page. */
  badCopyArg: -10,
  /** GNTST_address_too_big: of a transfer, the receiver cannot address the page. */
  addressTooBig: -11,
  /** GNTST_eagain: the granted page is paged out, try again. Linux does that itself, for about half a minute. */
  eagain: -12,
  /** GNTST_no_space: out of mapping handles or the like. */
  noSpace: -13,
} as const;

/** Bytes of one segment: `struct gntdev_grant_copy_segment` of Linux's gntdev.h on a 64-bit machine. */
export const GRANT_COPY_SEGMENT_BYTES = 24;

/** GNTCOPY_*_gref: which sides of a segment are grants. */
export const GrantCopyFlag = { sourceIsGrant: 1, destIsGrant: 2 } as const;

/** Where the parts of a segment are, in 32-bit words. */
export const GrantCopyWord = {
  /** Words of a whole segment. */
  segment: GRANT_COPY_SEGMENT_BYTES / 4,
  /** From the segment's first word: its `source` side, two words. */
  source: 0,
  /** From the segment's first word: its `dest` side, two words. */
  dest: 2,
  /** From the segment's first word: length u16, then flags u16. */
  length: 4,
  /** From the segment's first word: status s16, then padding. */
  status: 5,
  /** From the first word of a side that is a grant: its reference u32. */
  ref: 0,
  /** From the first word of a side that is a grant: offset in the page u16, then domain u16. */
  place: 1,
  /** From the first word of a local side: the lower half of its address. */
  addressLow: 0,
  /** From the first word of a local side: the upper half of its address. */
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
  /** The most segments that it holds. Appending more is not checked, and must not happen. */
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

  /** Writes the address of a place, with integers where they do: numbers with a fraction cost several times more. */
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
