import { grown } from '../grown.js';

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

/** The lists by which the stages of a pass hand requests on. While one is not empty another pass is owed. */
export class PassLists {
  /** To intake: taken in this pass, or to be done again. Its {@link Waiting} has those that were not admitted. */
  readonly taken = new RowList();
  /** By intake: whether one waits for its guest's turn only, or for the rest of its data, which the next passes bring. */
  owesTurn = false;
  /** By the answers: whether one waits for the copy of the rest of its data. */
  owesSlice = false;
  /** From intake to dispatch: admitted in this pass. */
  readonly admitted = new RowList();
  /** To dispatch: to be started once more, the write after a flush or the parts of a merged call that failed. */
  restart = new RowList();
  /** To the answers. */
  readonly ended = new RowList();
  #spare = new RowList();

  /** Whether there is something that the next pass goes on with, whatever happens outside. */
  get owePass(): boolean {
    return this.owesTurn || this.owesSlice || this.admitted.count > 0 || this.restart.count > 0 || this.ended.count > 0;
  }

  /** The rows of `restart`, which is empty afterwards and may be filled again while they are walked. */
  takeRestart(): RowList {
    const list = this.restart;
    this.restart = this.#spare;
    this.#spare = list;
    return list;
  }
}
