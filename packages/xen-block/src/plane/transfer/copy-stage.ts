import { GrantCopyBatch } from '@xenpv/xen-sys';

/** Carries out a batch: {@link GrantTable.copy}, or what stands in for it. */
export type CopyFunction = (batch: GrantCopyBatch) => number;

/**
 * Gathers the grant copies of many requests, all in one direction, into one call. A batch that is full is carried
 * out early. Each segment remembers the row it is for, so that one bad reference fails its own request only.
 */
export class CopyStage {
  readonly #copy: CopyFunction;
  readonly #batch: GrantCopyBatch;
  readonly #rows: Int32Array;
  readonly #failed: (row: number) => void;

  /** Our side's places count from `base`. */
  constructor(copy: CopyFunction, capacity: number, base: number, failed: (row: number) => void) {
    this.#copy = copy;
    this.#batch = new GrantCopyBatch(capacity, base);
    this.#rows = new Int32Array(capacity);
    this.#failed = failed;
  }

  fromGrant(row: number, domid: number, ref: number, offset: number, place: number, length: number): void {
    if (this.#batch.count === this.#batch.capacity) this.run();
    this.#rows[this.#batch.count] = row;
    this.#batch.fromGrant(domid, ref, offset, place, length);
  }

  toGrant(row: number, domid: number, ref: number, offset: number, place: number, length: number): void {
    if (this.#batch.count === this.#batch.capacity) this.run();
    this.#rows[this.#batch.count] = row;
    this.#batch.toGrant(domid, ref, offset, place, length);
  }

  /** Carries out what is gathered. Every row of which a segment failed is told, once a segment. */
  run(): void {
    const batch = this.#batch;
    const { count } = batch;
    if (count === 0) return;
    const result = this.#copy(batch);
    for (let i = 0; i < count; i++) {
      if (result < 0 || batch.status(i) !== 0) this.#failed(this.#rows[i]);
    }
    batch.clear();
  }
}
