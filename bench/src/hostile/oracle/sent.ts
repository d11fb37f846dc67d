import { PAGE } from './contents.js';
import { Meaning } from './meaning.js';

const MOST_WORDS = 28;

/** One request on its way. A ring has as many as slots, and uses them again and again. */
export class Sent {
  /** From 1 on: the owner of its pages. */
  readonly number: number;
  busy = false;
  kind = '';
  idLow = 0;
  idHigh = 0;
  readonly words = new Int32Array(MOST_WORDS);
  readonly meaning: Meaning;
  /** What it means with the word that another thread exchanges all the time, while `raced`. */
  readonly other: Meaning;
  raced = false;
  /** Something of it was changed by chance. */
  mutated = false;
  /** Pages that it has: of data, and one of segments or -1 with what it must hold. */
  readonly pages: Int32Array;
  pageCount = 0;
  list = -1;
  readonly listBytes = Buffer.alloc(PAGE);
  /** The part of the disk that it has. */
  lockSector = 0;
  lockSectors = 0;
  lockHow: 'read' | 'change' = 'read';
  /** Milliseconds. */
  since = 0;
  /** The last change of the disk when it was sent: what a flush covers. */
  change = 0;
  #generation = 0;

  constructor(number: number, mostSegments: number) {
    this.number = number;
    this.meaning = new Meaning(mostSegments);
    this.other = new Meaning(mostSegments);
    this.pages = new Int32Array(mostSegments);
  }

  /** A new id. Its low half is never negative. */
  renew(idHigh: number): void {
    this.#generation = (this.#generation + 1) & 0x1fffff;
    this.idLow = (this.#generation << 10) | (this.number - 1);
    this.idHigh = idHigh;
    this.pageCount = 0;
    this.list = -1;
    this.lockSectors = 0;
    this.raced = false;
    this.mutated = false;
  }
}

/** The index of the request that has an id with this low half. */
export function indexOfId(idLow: number): number {
  return idLow & 0x3ff;
}
