/** Where our private copy of a request's segments is: `count` of them, from `words[at]` on, as in a ring slot. */
export interface SegmentList {
  readonly words: Int32Array;
  readonly at: number;
  readonly count: number;
}
