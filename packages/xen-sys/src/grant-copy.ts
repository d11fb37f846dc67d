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

const WORDS = GRANT_COPY_SEGMENT_BYTES / 4;
const SOURCE_IS_GRANT = 1;
const DEST_IS_GRANT = 2;
const TWO_32 = 2 ** 32;

/**
 * A batch of grant-copy segments in the kernel's own layout, filled and sent without allocating.
 *
 * A segment, 24 bytes: source (8), destination (8), length u16, flags u16, status s16, padding.
 * A local side is a 64-bit address, see {@link GrantTable.register}: the batch's base, given once, and a place counted
 * from there. A foreign side is grant reference u32, offset in the page u16, domain u16. A segment must stay inside the
 * foreign page; the local side need not.
 */
export class GrantCopyBatch {
  /** The segments. `words[i * 6 ..]` is segment i. */
  readonly words: Uint32Array;
  readonly capacity: number;
  /** Segments filled so far. */
  count = 0;
  /** What a provider keeps with the batch, so that it can be carried out again at once. */
  carrier: unknown;
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

  clear(): void {
    this.count = 0;
  }

  /** Appends a copy of `length` bytes from the grant `ref` of `domid` at `offset` to the local `place`. */
  fromGrant(domid: number, ref: number, offset: number, place: number, length: number): void {
    const w = this.words;
    const at = this.count++ * WORDS;
    w[at] = ref;
    w[at + 1] = offset | (domid << 16);
    this.#setLocal(at + 2, place);
    w[at + 4] = length | (SOURCE_IS_GRANT << 16);
    w[at + 5] = 0;
  }

  /** Appends a copy of `length` bytes from the local `place` to the grant `ref` of `domid` at `offset`. */
  toGrant(domid: number, ref: number, offset: number, place: number, length: number): void {
    const w = this.words;
    const at = this.count++ * WORDS;
    this.#setLocal(at, place);
    w[at + 2] = ref;
    w[at + 3] = offset | (domid << 16);
    w[at + 4] = length | (DEST_IS_GRANT << 16);
    w[at + 5] = 0;
  }

  /** Writes the address of a place, with integers where they do: numbers with a fraction part cost several times more. */
  #setLocal(at: number, place: number): void {
    const w = this.words;
    if ((place | 0) === place && place >= 0) {
      const low = (this.#baseLow + place) | 0;
      w[at] = low;
      w[at + 1] = this.#baseHigh + (low >>> 0 < this.#baseLow >>> 0 ? 1 : 0);
      return;
    }
    const address = this.#base + place;
    w[at] = address;
    w[at + 1] = Math.floor(address / TWO_32);
  }

  /** The status of segment `index` after the copy: a {@link GrantStatus}. */
  status(index: number): number {
    return this.#statuses[index * (GRANT_COPY_SEGMENT_BYTES / 2) + 10];
  }

  /** For whoever carries out copies: sets the status of segment `index`. */
  setStatus(index: number, status: number): void {
    this.#statuses[index * (GRANT_COPY_SEGMENT_BYTES / 2) + 10] = status;
  }
}
