import { BlkifOp } from '@xenpv/blkif';

/** What a request is counted as: QEMU's block_acct classes. */
const AccountingClass = { read: 0, write: 1, flush: 2, discard: 3 } as const;
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

/** What requests are counted as, in QEMU's words. */
export const ACCOUNTING_CLASSES = ['read', 'write', 'flush', 'discard'] as const;
const CLASSES = ACCOUNTING_CLASSES.length;

/** The way of a request: pulled from the ring, queued at the engine, completed by it, pushed to the ring. */
export const LATENCY_PHASES = ['pulled_to_queued', 'queued_to_completed', 'completed_to_pushed', 'total'] as const;
export type LatencyPhase = (typeof LATENCY_PHASES)[number];

/** Bucket b counts requests of less than 2^b microseconds that were in no smaller one; the last has the rest. */
export const LATENCY_BUCKETS = 25;

// Each of the first five is CLASSES values long.
const OPERATIONS = 0;
const BYTES = OPERATIONS + CLASSES;
const FAILED = BYTES + CLASSES;
const INVALID = FAILED + CLASSES;
const MERGED = INVALID + CLASSES;
const UNKNOWN = MERGED + CLASSES;
const EVENTS = UNKNOWN + 1;
const NOTIFICATIONS = EVENTS + 1;
const PASSES = NOTIFICATIONS + 1;
const STARVED = PASSES + 1;
const IN_FLIGHT = STARVED + 1;
const TOTAL_TIME = IN_FLIGHT + 1;
const HISTOGRAMS = TOTAL_TIME + CLASSES;
const HISTOGRAM_VALUES = LATENCY_PHASES.length * CLASSES * LATENCY_BUCKETS;
const VALUES = HISTOGRAMS + HISTOGRAM_VALUES;

export interface ClassStatistics {
  /** Requests answered with OKAY. */
  readonly operations: number;
  readonly bytes: number;
  /** Requests that the storage or the grants failed. */
  readonly failed: number;
  /** Requests refused before anything was done. */
  readonly invalid: number;
  /** Requests that went to the storage together with their neighbour. */
  readonly merged: number;
  /** Nanoseconds from pulled to pushed, summed; estimated from some of them where reading the clock is dear. */
  readonly totalTimeNs: number;
  /** By phase: requests per bucket, see {@link LATENCY_BUCKETS}. */
  readonly latency: Readonly<Record<LatencyPhase, readonly number[]>>;
}

/** What a disk has done since it was created, as QEMU's block accounting counts it. */
export interface DiskStatistics {
  readonly read: ClassStatistics;
  readonly write: ClassStatistics;
  readonly flush: ClassStatistics;
  readonly discard: ClassStatistics;
  /** Requests of no known operation. */
  readonly unknown: number;
  /** Events received from the frontend. */
  readonly events: number;
  /** Events sent to it. */
  readonly notifications: number;
  /** Times that a ring was looked at and had requests; operations / passes is the batch size. */
  readonly passes: number;
  /** Requests that had to wait for buffer memory. */
  readonly starved: number;
  /** Requests taken and not answered at this moment. */
  readonly inFlight: number;
}

/**
 * One ring's counters, in shared memory, so that the thread that serves the ring writes them and any other reads
 * them without asking.
 */
export class RingCounters {
  readonly buffer: SharedArrayBuffer;
  readonly #v: Float64Array;

  constructor(buffer = new SharedArrayBuffer(VALUES * 8)) {
    this.buffer = buffer;
    this.#v = new Float64Array(buffer);
  }

  event(): void {
    this.#v[EVENTS]++;
  }

  notification(): void {
    this.#v[NOTIFICATIONS]++;
  }

  pass(inFlight: number): void {
    this.#v[PASSES]++;
    this.#v[IN_FLIGHT] = inFlight;
  }

  inFlight(count: number): void {
    this.#v[IN_FLIGHT] = count;
  }

  starved(): void {
    this.#v[STARVED]++;
  }

  unknown(): void {
    this.#v[UNKNOWN]++;
  }

  invalid(kind: AccountingClass): void {
    this.#v[INVALID + kind]++;
  }

  failed(kind: AccountingClass): void {
    this.#v[FAILED + kind]++;
  }

  merged(kind: AccountingClass, count: number): void {
    this.#v[MERGED + kind] += count;
  }

  done(kind: AccountingClass, bytes: number): void {
    this.#v[OPERATIONS + kind]++;
    this.#v[BYTES + kind] += bytes;
  }

  /** The four times of one request, in milliseconds; it stands for `weight` of them. */
  latency(
    kind: AccountingClass,
    weight: number,
    pulled: number,
    queued: number,
    completed: number,
    pushed: number,
  ): void {
    this.#v[TOTAL_TIME + kind] += weight * (pushed - pulled) * 1e6;
    this.#bucket(0, kind, weight, queued - pulled);
    this.#bucket(1, kind, weight, completed - queued);
    this.#bucket(2, kind, weight, pushed - completed);
    this.#bucket(3, kind, weight, pushed - pulled);
  }

  #bucket(phase: number, kind: number, weight: number, milliseconds: number): void {
    const bucket = 32 - Math.clz32(milliseconds * 1000);
    const last = LATENCY_BUCKETS - 1;
    this.#v[HISTOGRAMS + (phase * CLASSES + kind) * LATENCY_BUCKETS + Math.min(bucket, last)] += weight;
  }
}

/** Adds up the counters of a disk's rings. */
export function readStatistics(buffers: Iterable<SharedArrayBuffer>): DiskStatistics {
  const sum = new Float64Array(VALUES);
  for (const buffer of buffers) {
    const values = new Float64Array(buffer);
    for (let i = 0; i < VALUES; i++) sum[i] += values[i];
  }
  const [read, write, flush, discard] = ACCOUNTING_CLASSES.map((_, kind) => classStatistics(sum, kind));
  return {
    read,
    write,
    flush,
    discard,
    unknown: sum[UNKNOWN],
    events: sum[EVENTS],
    notifications: sum[NOTIFICATIONS],
    passes: sum[PASSES],
    starved: sum[STARVED],
    inFlight: sum[IN_FLIGHT],
  };
}

function classStatistics(values: Float64Array, kind: number): ClassStatistics {
  const latency = Object.fromEntries(
    LATENCY_PHASES.map((name, phase) => {
      const at = HISTOGRAMS + (phase * CLASSES + kind) * LATENCY_BUCKETS;
      return [name, Array.from(values.subarray(at, at + LATENCY_BUCKETS))];
    }),
  ) as Record<LatencyPhase, number[]>;
  return {
    operations: values[OPERATIONS + kind],
    bytes: values[BYTES + kind],
    failed: values[FAILED + kind],
    invalid: values[INVALID + kind],
    merged: values[MERGED + kind],
    totalTimeNs: values[TOTAL_TIME + kind],
    latency,
  };
}
