/**
 * The grant copies of many requests, all in one direction, gathered into one call. Each staged piece is remembered
 * with its row, so that one bad reference fails its own request only. Nothing is copied before `run`, except that a
 * full batch is carried out early: a copy has been made only after `run`.
 */
import { GrantCopyBatch } from '@xenpv/xen-sys';

/** Segments of one batch. */
const CAPACITY = 2048;

/** Carries out a batch: {@link GrantTable.copy}, or its substitute. */
export type CopyFunction = (batch: GrantCopyBatch) => number;

export class CopyStage {
  readonly #copy: CopyFunction;
  readonly #batch: GrantCopyBatch;
  readonly #rows = new Int32Array(CAPACITY);
  readonly #failed: (row: number) => void;
  #row = 0;
  #domid = 0;

  /** Our side's places count from the address `base`. `failed` is told a row once for each of its bad segments. */
  constructor(copy: CopyFunction, base: number, failed: (row: number) => void) {
    this.#copy = copy;
    this.#batch = new GrantCopyBatch(CAPACITY, base);
    this.#failed = failed;
  }

  /** The next copies are for this row, whose grants are of this domain. */
  begin(row: number, domid: number): void {
    this.#row = row;
    this.#domid = domid;
  }

  fromGrant(ref: number, offset: number, place: number, length: number): void {
    if (this.#batch.count === CAPACITY) this.run();
    this.#rows[this.#batch.count] = this.#row;
    this.#batch.fromGrant(this.#domid, ref, offset, place, length);
  }

  toGrant(ref: number, offset: number, place: number, length: number): void {
    if (this.#batch.count === CAPACITY) this.run();
    this.#rows[this.#batch.count] = this.#row;
    this.#batch.toGrant(this.#domid, ref, offset, place, length);
  }

  /** Carries out all staged copies. */
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
