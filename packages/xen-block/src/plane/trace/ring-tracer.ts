import { grown } from '../grown.js';
import { Point, type PointNumber, RECORD_WORDS, RecordWord, type TraceBuffer } from './trace-buffer.js';

/** What a point knows of its request. Offset and length are bytes, -1 where they are not known yet. */
export interface TracedRequest {
  readonly idLow: number;
  readonly idHigh: number;
  readonly operation: number;
  readonly offset: number;
  readonly length: number;
  readonly status: number;
}

const SECTOR = 512;

/**
 * Writes down the requests of one ring as they pass their points, each with its time and how long it took: to the storage
 * since it was taken, at the storage, and at the end from its taking to its answer. A request is known by its row in the
 * request table until its answer; of one that was taken before the trace began, the times and number are not known.
 */
export class RingTracer {
  readonly #buffer: TraceBuffer;
  readonly #record = new Float64Array(RECORD_WORDS);
  /** By row, milliseconds on the performance clock; 0: not known. */
  #taken = new Float64Array(0);
  #queued = new Float64Array(0);
  /** By row: the request's number and 1. */
  #request = new Float64Array(0);

  constructor(buffer: TraceBuffer) {
    this.#buffer = buffer;
  }

  passed(point: PointNumber, row: number, request: TracedRequest): void {
    if (row >= this.#taken.length) this.#grow(row + 1);
    const now = performance.now();
    if (point === Point.taken) {
      this.#taken[row] = now;
      this.#queued[row] = 0;
      this.#request[row] = this.#buffer.nextRequest() + 1;
    }
    const record = this.#record;
    record[RecordWord.time] = performance.timeOrigin + now;
    record[RecordWord.point] = point;
    record[RecordWord.operation] = request.operation;
    record[RecordWord.idLow] = request.idLow;
    record[RecordWord.idHigh] = request.idHigh;
    record[RecordWord.sector] = request.offset < 0 ? -1 : request.offset / SECTOR;
    record[RecordWord.sectors] = request.length < 0 ? -1 : request.length / SECTOR;
    record[RecordWord.latency] = since(this.#begin(point, row), now);
    record[RecordWord.status] = request.status;
    record[RecordWord.request] = this.#request[row] - 1;
    this.#buffer.put(record);
    if (point === Point.storage) this.#queued[row] = now;
    else if (point === Point.pushed) this.#request[row] = this.#taken[row] = this.#queued[row] = 0;
  }

  /** What the latency at a point is counted from; 0: it has none. */
  #begin(point: PointNumber, row: number): number {
    if (point === Point.taken) return 0;
    return point === Point.done ? this.#queued[row] : this.#taken[row];
  }

  #grow(rows: number): void {
    const capacity = 2 ** Math.ceil(Math.log2(rows));
    this.#taken = grown(this.#taken, new Float64Array(capacity));
    this.#queued = grown(this.#queued, new Float64Array(capacity));
    this.#request = grown(this.#request, new Float64Array(capacity));
  }
}

function since(begin: number, now: number): number {
  return begin === 0 ? -1 : now - begin;
}
