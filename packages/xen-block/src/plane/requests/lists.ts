import { grown } from './table.js';

/** A list of rows that is filled, walked and emptied again and again. */
export class RowList {
  items = new Int32Array(256);
  count = 0;

  add(row: number): void {
    if (this.count === this.items.length) this.items = grown(this.items, new Int32Array(this.count * 2));
    this.items[this.count++] = row;
  }

  clear(): void {
    this.count = 0;
  }

  /** Leaves out the first `count` rows. */
  drop(count: number): void {
    if (count < this.count) this.items.copyWithin(0, count, this.count);
    this.count -= count;
  }
}

/**
 * The lists by which the stages of a pass hand requests on. A list that is not empty at the end of a pass is owed
 * another, but for `taken`: what waits there waits for memory, which only the answer to another request brings.
 */
export class PassLists {
  /** By intake: the requests that still wait for memory, and after them those taken in this pass. */
  readonly taken = new RowList();
  /** From intake to dispatch: admitted in this pass. */
  readonly admitted = new RowList();
  /** To dispatch: to be started once more, the write after a flush or the parts of a merged call that failed. */
  restart = new RowList();
  /** To the answers. */
  readonly ended = new RowList();
  #spare = new RowList();

  /** Whether there is something that the next pass goes on with, whatever happens outside. */
  get owePass(): boolean {
    return this.admitted.count > 0 || this.restart.count > 0 || this.ended.count > 0;
  }

  /** The rows of `restart`, which is empty afterwards and may be filled again while they are walked. */
  takeRestart(): RowList {
    const list = this.restart;
    this.restart = this.#spare;
    this.#spare = list;
    return list;
  }
}
