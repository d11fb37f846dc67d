import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { BlockdError } from '../../../errors.js';
import { type TraceLine, timeOf } from '../lines.js';

/** What the storage was given, in order, as columns. */
export class TracedOperations {
  count = 0;
  /** Microseconds since 1970. */
  time = new Float64Array(0);
  /** Index into {@link REPLAYED}. */
  kind = new Uint8Array(0);
  /** Bytes. */
  offset = new Float64Array(0);
  length = new Float64Array(0);

  add(time: number, kind: number, offset: number, length: number): void {
    if (this.count === this.time.length) this.#grow(Math.max(1024, 2 * this.count));
    this.time[this.count] = time;
    this.kind[this.count] = kind;
    this.offset[this.count] = offset;
    this.length[this.count++] = length;
  }

  #grow(capacity: number): void {
    const larger = <T extends Float64Array | Uint8Array>(old: T, fresh: T) => {
      fresh.set(old);
      return fresh;
    };
    this.time = larger(this.time, new Float64Array(capacity));
    this.kind = larger(this.kind, new Uint8Array(capacity));
    this.offset = larger(this.offset, new Float64Array(capacity));
    this.length = larger(this.length, new Float64Array(capacity));
  }
}

/** What the storage can be given. A flush and a barrier that have data are a flush, and then a write. */
export const REPLAYED = ['read', 'write', 'flush', 'discard'] as const;
export type Replayed = (typeof REPLAYED)[number];

export interface TraceFile {
  readonly operations: TracedOperations;
  /** By kind: how long the storage took then, in microseconds. */
  readonly latencies: Readonly<Record<Replayed, number[]>>;
  /** Lines that the writer had lost. */
  readonly lost: number;
  /** False: the writer was killed, or the file is cut. */
  readonly isWhole: boolean;
}

const SECTOR = 512;
/** More than any request can move (4096 segments of a page), or discard at once. */
const MOST_BYTES = 16 * 1024 * 1024;
const MOST_OFFSET = Number.MAX_SAFE_INTEGER;

/** Reads a file of `trace --write`. Error: ERR_USAGE, which names the line that is wrong. */
export async function readTraceFile(path: string): Promise<TraceFile> {
  const operations = new TracedOperations();
  const latencies: Record<Replayed, number[]> = { read: [], write: [], flush: [], discard: [] };
  const state = { lost: 0, isWhole: false };
  let number = 0;
  const stream = createReadStream(path);
  const lines = createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY });
  const wrong = (what: string, cause?: unknown) =>
    new BlockdError('ERR_USAGE', 'replay', `${path}${number > 0 ? `:${number}` : ''}: ${what}`, { path, cause });
  try {
    let before: string | undefined;
    for await (const text of lines) {
      if (before !== undefined) take(before);
      before = text;
    }
    if (before !== undefined) take(before, true);
  } catch (error) {
    throw error instanceof BlockdError ? error : wrong((error as Error).message, error);
  }
  if (number === 0) throw wrong('it is empty; expected what xen-blockd trace --write has written');
  return { operations, latencies, ...state };

  function take(text: string, isLast = false): void {
    number++;
    const line = parsed(text);
    if (line === undefined) {
      // A writer that is killed leaves a part of a line.
      if (isLast && number > 1) return;
      throw wrong('it is no JSON object; expected a line of xen-blockd trace --write');
    }
    if (number === 1) {
      const version = line['xen-blockd-trace'];
      if (version === undefined) throw wrong('it is no trace; expected what xen-blockd trace --write has written');
      if (version !== 1) throw wrong(`a trace of form ${JSON.stringify(version)}; this version knows form 1`);
    } else if ('ended' in line) state.isWhole = true;
    else if ('lost' in line) state.lost += Number(line.lost) || 0;
    else addLine(line as unknown as TraceLine);
  }

  function addLine({ time, point, op, sector = 0, sectors = 0, latency, status }: TraceLine): void {
    if (point !== 'storage' && point !== 'done') return;
    const kind = replayedAs(op, sectors);
    if (kind === undefined) return;
    if (point === 'done') {
      if (latency !== undefined && status === 'ok') latencies[kind].push(latency);
      return;
    }
    const at = timeOf(time);
    if (!Number.isFinite(at)) throw wrong(`time ${JSON.stringify(time)}: expected as 2026-01-02T03:04:05.678901Z`);
    const most = kind === 'discard' ? MOST_OFFSET : MOST_BYTES;
    if (!isCount(sector, MOST_OFFSET) || !isCount(sectors, most)) {
      throw wrong(
        `sector ${JSON.stringify(sector)} + ${JSON.stringify(sectors)}: expected sectors that a request can have`,
      );
    }
    operations.add(at, REPLAYED.indexOf(kind), sector * SECTOR, kind === 'flush' ? 0 : sectors * SECTOR);
  }
}

function replayedAs(op: string, sectors: number): Replayed | undefined {
  if (op === 'flush' || op === 'barrier') return sectors > 0 ? 'write' : 'flush';
  return op === 'read' || op === 'write' || op === 'discard' ? op : undefined;
}

function parsed(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}

/** `most`: bytes. */
function isCount(value: unknown, most: number): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) * SECTOR <= most;
}
