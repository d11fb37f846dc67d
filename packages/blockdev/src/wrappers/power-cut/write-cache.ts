import { BlockOp } from '../../block-image.js';

/** A change that is in the cache only. */
export interface CachedChange {
  /** Not `writeFua`. */
  readonly op: BlockOp;
  /** Bytes. */
  readonly offset: number;
  readonly length: number;
  /** Of a write. */
  readonly data: Buffer | undefined;
  /** Its user knows that it has ended: the next flush covers it. */
  answered: boolean;
}

/** What a disk has taken and not written to its medium: changes in the order in which they came. */
export class WriteCache {
  #changes: CachedChange[] = [];
  #bytes = 0;

  /** Of data. */
  get bytes(): number {
    return this.#bytes;
  }

  /** All changes, the oldest first. */
  get changes(): readonly CachedChange[] {
    return this.#changes;
  }

  add(change: CachedChange): void {
    this.#changes.push(change);
    this.#bytes += change.data?.length ?? 0;
  }

  /** Those that change any byte of [start, end), the oldest first. */
  within(start: number, end: number): CachedChange[] {
    return this.#changes.filter(({ offset, length }) => offset < end && start < offset + length);
  }

  /** What a flush covers that begins now: see {@link from}. */
  answered(): CachedChange[] {
    return this.from(({ answered }) => answered);
  }

  /** What is picked, and what came before it in the same place: whatever is written out is newer than what was. */
  from(picks: (change: CachedChange) => boolean): CachedChange[] {
    const due: CachedChange[] = [];
    for (const change of this.#changes.toReversed()) {
      if (picks(change) || due.some((later) => overlap(change, later))) due.push(change);
    }
    return due.reverse();
  }

  /** Those of the changes that are cached still. */
  stillOf(changes: readonly CachedChange[]): CachedChange[] {
    const cached = new Set(this.#changes);
    return changes.filter((change) => cached.has(change));
  }

  remove(changes: readonly CachedChange[]): void {
    const gone = new Set(changes);
    this.#changes = this.#changes.filter((change) => !gone.has(change));
    this.#bytes = this.#changes.reduce((sum, { data }) => sum + (data?.length ?? 0), 0);
  }
}

function overlap(one: CachedChange, other: CachedChange): boolean {
  return one.offset < other.offset + other.length && other.offset < one.offset + one.length;
}

/**
 * Puts into `bytes`, which the medium has at `offset`, what the changes make of them. A discard says nothing of what is
 * read afterwards.
 */
export function applyChanges(changes: readonly CachedChange[], bytes: Buffer, offset: number): void {
  for (const change of changes) {
    const start = Math.max(change.offset, offset);
    const end = Math.min(change.offset + change.length, offset + bytes.length);
    if (start >= end) continue;
    const part = bytes.subarray(start - offset, end - offset);
    if (change.data) part.set(change.data.subarray(start - change.offset, end - change.offset));
    else if (change.op === BlockOp.writeZeroes) part.fill(0);
  }
}
