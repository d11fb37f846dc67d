import { BlkifOp } from '@xenpv/blkif';

/** What a request is counted as, in the order of the counters: QEMU's block_acct classes. */
export const ACCOUNTING_CLASSES = ['read', 'write', 'flush', 'discard'] as const;

const AccountingClass = { read: 0, write: 1, flush: 2, discard: 3 } as const;
/** The number of a class, as it is counted under. */
export type AccountingClass = (typeof AccountingClass)[keyof typeof AccountingClass];

/** What a request of this operation is counted as; a barrier is a write. */
export function accountingClass(operation: number): AccountingClass {
  switch (operation) {
    case BlkifOp.read:
      return AccountingClass.read;
    case BlkifOp.flushDiskcache:
      return AccountingClass.flush;
    case BlkifOp.discard:
      return AccountingClass.discard;
    default:
      return AccountingClass.write;
  }
}

/** The way of a request: pulled from the ring, queued at the engine, completed by it, pushed to the ring. */
export const LATENCY_PHASES = ['pulled_to_queued', 'queued_to_completed', 'completed_to_pushed', 'total'] as const;
/** A part of the way of a request. */
export type LatencyPhase = (typeof LATENCY_PHASES)[number];

/** Bucket b counts requests of less than 2^b microseconds that were in no smaller one; the last has the rest. */
export const LATENCY_BUCKETS = 25;

const CLASSES = ACCOUNTING_CLASSES.length;
const SCALARS = 7 * CLASSES;

/** Where each counter of a ring is, in 64-bit floats. The first seven have one for each class. */
export const Counter = {
  operations: 0,
  bytes: CLASSES,
  failed: 2 * CLASSES,
  invalid: 3 * CLASSES,
  merged: 4 * CLASSES,
  /** Nanoseconds. */
  totalTime: 5 * CLASSES,
  /** Nanoseconds. */
  storageTime: 6 * CLASSES,
  unknown: SCALARS,
  events: SCALARS + 1,
  notifications: SCALARS + 2,
  passes: SCALARS + 3,
  starved: SCALARS + 4,
  inFlight: SCALARS + 5,
  kept: SCALARS + 6,
  overlooked: SCALARS + 7,
  recovered: SCALARS + 8,
  inexact: SCALARS + 9,
  /** Nanoseconds. */
  throttledTime: SCALARS + 10,
  waiting: SCALARS + 11,
  memory: SCALARS + 12,
  histograms: SCALARS + 13,
  /** For each class one for each errno. */
  errors: SCALARS + 13 + LATENCY_PHASES.length * CLASSES * LATENCY_BUCKETS,
} as const;

/** Linux's errnos are smaller; any other is counted as number 0. */
export const ERRNOS = 134;

export const COUNTERS = Counter.errors + CLASSES * ERRNOS;

/** Behind the counters: how many requests in flight began in each of so many spans of time, and which span it is now. */
export const AGE_SPANS = 64;
export const Age = { inFlight: COUNTERS, span: COUNTERS + AGE_SPANS } as const;

/** 64-bit floats that a ring's counters take. */
export const COUNTER_WORDS = Age.span + 1;

/** Where the errors of a class with a positive errno are counted. */
export function errorAt(kind: number, errno: number): number {
  return Counter.errors + kind * ERRNOS + (errno < ERRNOS ? errno : 0);
}

/** Where the buckets of a phase and class begin. */
export function histogramAt(phase: number, kind: number): number {
  return Counter.histograms + (phase * CLASSES + kind) * LATENCY_BUCKETS;
}
