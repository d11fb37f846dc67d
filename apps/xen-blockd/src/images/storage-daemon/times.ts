/** Milliseconds. */
export interface StorageDaemonTimes {
  /** From the start until it must be ready. */
  readonly startMs: number;
  /** To write back what it holds, before it is killed. */
  readonly stopMs: number;
  /** Before the second start in a row, and twice as long before each further one. */
  readonly retryMs: number;
  /** Between starts, at most. */
  readonly retryMostMs: number;
  /** One that ran so long ran well: the next end is the first of a row. */
  readonly wellMs: number;
  /** One of an earlier process that has not answered by then is killed. */
  readonly answerMs: number;
  /** For the requests of an earlier process to end in it. */
  readonly quietMs: number;
  /** For who has the image locked to let go of it: processes that were killed end when their storage answers. */
  readonly lockedMs: number;
  /** For a disk of ours that its toolstack is about to end, and that does not know it yet when the next one comes. */
  readonly unawareMs: number;
}

/** A cluster or server that is away has nothing written back to it: what was not flushed is kept here. */
export const NETWORK_TIMES: Partial<StorageDaemonTimes> = { stopMs: 2000 };

export const DEFAULT_TIMES: StorageDaemonTimes = {
  startMs: 30_000,
  stopMs: 10_000,
  retryMs: 100,
  retryMostMs: 2000,
  wellMs: 10_000,
  answerMs: 10_000,
  quietMs: 10_000,
  lockedMs: 3000,
  unawareMs: 500,
};
