import { errnoName } from './errno-name.js';
import {
  ACCOUNTING_CLASSES,
  COUNTERS,
  Counter,
  ERRNOS,
  errorAt,
  histogramAt,
  LATENCY_BUCKETS,
  LATENCY_PHASES,
  type LatencyPhase,
} from './layout.js';

/** What was done of one class of requests. */
export interface ClassStatistics {
  /** Requests answered with OKAY. */
  readonly operations: number;
  /** Bytes that those moved or discarded. */
  readonly bytes: number;
  /** Requests that the storage or the grants failed. */
  readonly failed: number;
  /** Requests refused before anything was done. */
  readonly invalid: number;
  /** Errors of the storage by the errno's name, those of requests that were kept and done again included. */
  readonly errors: Readonly<Record<string, number>>;
  /** Requests that went to the storage together with their neighbour. */
  readonly merged: number;
  /** Nanoseconds from pulled to pushed, summed; estimated from some of them where reading the clock is dear. */
  readonly totalTimeNs: number;
  /** Of that, from queued at the storage's engine to completed by it. */
  readonly storageTimeNs: number;
  /** By phase: requests per bucket, see {@link LATENCY_BUCKETS}. */
  readonly latency: Readonly<Record<LatencyPhase, readonly number[]>>;
}

/** What a disk has done since it was created, as QEMU's block accounting counts it. */
export interface DiskStatistics {
  /** BLKIF_OP_READ, direct and indirect. */
  readonly read: ClassStatistics;
  /** BLKIF_OP_WRITE, direct and indirect, and BLKIF_OP_WRITE_BARRIER. */
  readonly write: ClassStatistics;
  /** BLKIF_OP_FLUSH_DISKCACHE. */
  readonly flush: ClassStatistics;
  /** BLKIF_OP_DISCARD, secure or not. */
  readonly discard: ClassStatistics;
  /** Requests of no known operation. */
  readonly unknown: number;
  /** Events received from the frontend. */
  readonly events: number;
  /** Events sent to it. */
  readonly notifications: number;
  /** Times that a ring was looked at and had requests; operations / passes is the batch size. */
  readonly passes: number;
  /** Requests that had to wait for buffer memory: the disk or its guest had its share. */
  readonly starved: number;
  /** Times that a ring had requests and nobody looked at it for a second. */
  readonly overlooked: number;
  /** Results of the storage that were neither the length asked for nor an errno, or that nobody waited for. */
  readonly inexact: number;
  /** Requests that an earlier process took and did not answer, and that this one carried out again. */
  readonly recovered: number;
  /** Nanoseconds that rings had requests which their limits did not let them take, summed over the rings. */
  readonly throttledTimeNs: number;
  /** Requests taken and not answered at this moment. */
  readonly inFlight: number;
  /** Those of them that wait for buffer memory or for their guest's turn. */
  readonly waiting: number;
  /** Bytes of buffer memory that requests have at this moment. */
  readonly bufferBytes: number;
  /** Requests in flight that the storage failed and that are kept until the disk is resumed. */
  readonly kept: number;
}

/** Adds up the counters of a disk's rings. */
export function readStatistics(buffers: Iterable<SharedArrayBuffer>): DiskStatistics {
  const sum = new Float64Array(COUNTERS);
  for (const buffer of buffers) {
    const values = new Float64Array(buffer);
    for (let i = 0; i < COUNTERS; i++) sum[i] += values[i];
  }
  const [read, write, flush, discard] = ACCOUNTING_CLASSES.map((_, kind) => classStatistics(sum, kind));
  return {
    read,
    write,
    flush,
    discard,
    unknown: sum[Counter.unknown],
    events: sum[Counter.events],
    notifications: sum[Counter.notifications],
    passes: sum[Counter.passes],
    starved: sum[Counter.starved],
    overlooked: sum[Counter.overlooked],
    inexact: sum[Counter.inexact],
    recovered: sum[Counter.recovered],
    throttledTimeNs: sum[Counter.throttledTime],
    inFlight: sum[Counter.inFlight],
    waiting: sum[Counter.waiting],
    bufferBytes: sum[Counter.memory],
    kept: sum[Counter.kept],
  };
}

function classStatistics(values: Float64Array, kind: number): ClassStatistics {
  const latency = Object.fromEntries(
    LATENCY_PHASES.map((name, phase) => {
      const at = histogramAt(phase, kind);
      return [name, Array.from(values.subarray(at, at + LATENCY_BUCKETS))];
    }),
  ) as Record<LatencyPhase, number[]>;
  return {
    operations: values[Counter.operations + kind],
    bytes: values[Counter.bytes + kind],
    failed: values[Counter.failed + kind],
    invalid: values[Counter.invalid + kind],
    errors: errorsByName(values, kind),
    merged: values[Counter.merged + kind],
    totalTimeNs: values[Counter.totalTime + kind],
    storageTimeNs: values[Counter.storageTime + kind],
    latency,
  };
}

function errorsByName(values: Float64Array, kind: number): Record<string, number> {
  const errors: Record<string, number> = {};
  for (let errno = 0; errno < ERRNOS; errno++) {
    const count = values[errorAt(kind, errno)];
    if (count > 0) errors[errno === 0 ? 'other' : errnoName(errno)] = count;
  }
  return errors;
}
