import { type AccountingClass, Age, COUNTER_WORDS, Counter, errorAt, histogramAt, LATENCY_BUCKETS } from './layout.js';

const MICROSECONDS = 1000;
const NANOSECONDS = 1e6;
/** From a histogram of a class to that of the next phase. */
const PHASE = histogramAt(1, 0) - histogramAt(0, 0);

/**
 * One ring's counters, in shared memory, so that the thread that serves the ring writes them and any other reads
 * them without asking.
 */
export class RingCounters {
  /** The counters as 64-bit floats: for `readStatistics`, or for RingCounters on another thread. */
  readonly buffer: SharedArrayBuffer;
  readonly #values: Float64Array;

  constructor(buffer = new SharedArrayBuffer(COUNTER_WORDS * 8)) {
    this.buffer = buffer;
    this.#values = new Float64Array(buffer);
  }

  /** Counts an event that came. */
  event(): void {
    this.#values[Counter.events]++;
  }

  /** Counts an event that was sent. */
  notification(): void {
    this.#values[Counter.notifications]++;
  }

  /** Counts a pass. */
  pass(inFlight: number): void {
    this.#values[Counter.passes]++;
    this.#values[Counter.inFlight] = inFlight;
  }

  /** Sets how many requests are in flight. */
  inFlight(count: number): void {
    this.#values[Counter.inFlight] = count;
  }

  /** Counts a request that waited for memory. */
  starved(): void {
    this.#values[Counter.starved]++;
  }

  /** Requests that wait for memory or for their guest's turn. */
  waiting(count: number): void {
    this.#values[Counter.waiting] = count;
  }

  /** Requests have so many bytes of memory more. */
  memory(bytes: number): void {
    this.#values[Counter.memory] += bytes;
  }

  /** Counts a time when the ring had requests and nobody looked at it. */
  overlooked(): void {
    this.#values[Counter.overlooked]++;
  }

  /** The storage ended an operation with a result that cannot be, or that nobody waits for. */
  inexact(): void {
    this.#values[Counter.inexact]++;
  }

  /** Requests of an earlier process that are carried out again. */
  recovered(count: number): void {
    this.#values[Counter.recovered] += count;
  }

  /** Requests had to stay in the ring for so long, because of a limit. */
  throttled(milliseconds: number): void {
    this.#values[Counter.throttledTime] += milliseconds * NANOSECONDS;
  }

  /** Counts a request of an unknown operation. */
  unknown(): void {
    this.#values[Counter.unknown]++;
  }

  /** Counts a request that makes no sense. */
  invalid(kind: AccountingClass): void {
    this.#values[Counter.invalid + kind]++;
  }

  /** Counts a request that the storage failed. */
  failed(kind: AccountingClass): void {
    this.#values[Counter.failed + kind]++;
  }

  /** The storage failed a request of which the guest may never hear: `errno` is positive. */
  storageError(kind: AccountingClass, errno: number): void {
    this.#values[errorAt(kind, errno)]++;
  }

  /** Requests that are kept since the storage failed them. */
  kept(count: number): void {
    this.#values[Counter.kept] = count;
  }

  /** A request is in flight from now on; returns what {@link ended} is to be told. See RequestAges. */
  began(): number {
    const span = this.#values[Age.span];
    this.#values[Age.inFlight + span]++;
    return span;
  }

  /** A request is in flight no more; `span` is what {@link began} returned. */
  ended(span: number): void {
    this.#values[Age.inFlight + span]--;
  }

  /** Counts requests that went out in one operation. */
  merged(kind: AccountingClass, count: number): void {
    this.#values[Counter.merged + kind] += count;
  }

  /** Counts what was moved. */
  done(kind: AccountingClass, bytes: number): void {
    this.#values[Counter.operations + kind]++;
    this.#values[Counter.bytes + kind] += bytes;
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
    this.#values[Counter.totalTime + kind] += weight * (pushed - pulled) * NANOSECONDS;
    this.#values[Counter.storageTime + kind] += weight * (completed - queued) * NANOSECONDS;
    const at = histogramAt(0, kind);
    this.#bucket(at, weight, queued - pulled);
    this.#bucket(at + PHASE, weight, completed - queued);
    this.#bucket(at + 2 * PHASE, weight, pushed - completed);
    this.#bucket(at + 3 * PHASE, weight, pushed - pulled);
  }

  #bucket(histogram: number, weight: number, milliseconds: number): void {
    const bucket = 32 - Math.clz32(milliseconds * MICROSECONDS);
    this.#values[histogram + Math.min(bucket, LATENCY_BUCKETS - 1)] += weight;
  }
}
