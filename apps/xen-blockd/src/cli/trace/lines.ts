import { BlockdError } from '../../errors.js';

/** The points of a request's way, in order. */
export const POINTS = ['taken', 'storage', 'done', 'pushed'] as const;
export type TracePoint = (typeof POINTS)[number];

export const OPERATIONS = ['read', 'write', 'barrier', 'flush', 'discard'] as const;

/**
 * A request at a point of its way: a line of `trace --json` and of a trace's file. What is not known is not there.
 */
export interface TraceLine {
  /** UTC, with microseconds: `2026-01-02T03:04:05.678901Z`. */
  readonly time: string;
  readonly point: TracePoint;
  readonly queue: number;
  /** Which request of the queue, counted since the trace began; not known of one that was taken before. */
  readonly request?: number;
  /** The guest's id, in hexadecimal digits. */
  readonly id: string;
  /** One of {@link OPERATIONS}, or the number of one that there is not. */
  readonly op: string;
  /** In 512-byte units. */
  readonly sector?: number;
  readonly sectors?: number;
  /**
   * Microseconds: of `storage` since it was taken, of `done` since the storage got it, of `pushed` since it was taken.
   */
  readonly latency?: number;
  /** `ok`, `error` or `unsupported`: as far as it is known at this point. */
  readonly status: string;
}

/** The first line of a trace's file. */
export interface TraceHead {
  /** The version of this form. */
  readonly 'xen-blockd-trace': 1;
  readonly device: string;
  readonly version: string;
}

/** Records were overwritten before they were read, before the line that follows. */
export interface LostLine {
  readonly lost: number;
}

/** The last line, unless the writer was killed. */
export interface EndLine {
  /** Why. */
  readonly ended: string;
  readonly lines: number;
  readonly lost: number;
}

/** What x-trace-start answers. */
export interface TraceStart {
  readonly trace: number;
  readonly device: string;
  readonly words: readonly string[];
  readonly operations: Readonly<Record<string, number>>;
}

const STATUSES: Readonly<Record<number, string>> = { 0: 'ok', [-1]: 'error', [-2]: 'unsupported' };
const WORDS = [
  'time',
  'point',
  'operation',
  'idLow',
  'idHigh',
  'sector',
  'sectors',
  'latency',
  'status',
  'request',
  'queue',
];

/**
 * Makes lines of records, by the names that the daemon has for their values. Error: ERR_SOCKET, it has none for one that
 * is needed.
 */
export function recordDecoder({ words, operations }: TraceStart): (records: string) => TraceLine[] {
  const missing = WORDS.find((word) => !words.includes(word));
  if (missing !== undefined) {
    throw new BlockdError('ERR_SOCKET', 'trace', `the daemon's records have no ${missing}: it is of another version`);
  }
  const at = Object.fromEntries(words.map((word, index) => [word, index]));
  const names = new Map(Object.entries(operations).map(([name, number]) => [number, name]));
  const lineOf = (record: Float64Array): TraceLine => {
    const value = (word: string) => record[at[word]];
    const known = (word: string, name = word) => (value(word) < 0 ? {} : { [name]: value(word) });
    const operation = value('operation');
    return {
      time: timeText(value('time')),
      point: POINTS[value('point')],
      queue: value('queue'),
      ...known('request'),
      id: idText(value('idLow'), value('idHigh')),
      op: names.get(operation) ?? `${operation}`,
      ...known('sector'),
      ...known('sectors'),
      ...(value('latency') < 0 ? {} : { latency: Math.round(value('latency') * 10_000) / 10 }),
      status: STATUSES[value('status')] ?? `${value('status')}`,
    };
  };
  return (text) => {
    const bytes = Buffer.from(text, 'base64');
    const values = Float64Array.from({ length: bytes.length >> 3 }, (_, i) => bytes.readDoubleLE(8 * i));
    const records = [];
    for (let i = 0; i + words.length <= values.length; i += words.length) {
      records.push(values.subarray(i, i + words.length));
    }
    // Each queue has its records in order; together they are by time.
    records.sort((a, b) => a[at.time] - b[at.time]);
    return records.map(lineOf);
  };
}

function idText(low: number, high: number): string {
  return high === 0 ? low.toString(16) : `${high.toString(16)}${low.toString(16).padStart(8, '0')}`;
}

/** Of milliseconds since 1970. */
function timeText(milliseconds: number): string {
  const microseconds = Math.round(milliseconds * 1000);
  const whole = Math.floor(microseconds / 1000);
  return `${new Date(whole).toISOString().slice(0, -1)}${`${microseconds - whole * 1000}`.padStart(3, '0')}Z`;
}

/** Microseconds since 1970; NaN for what is no time of ours. */
export function timeOf(text: string): number {
  const [, whole, rest] = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3})(\d{3})Z$/.exec(text) ?? [];
  return Date.parse(`${whole}Z`) * 1000 + Number(rest);
}
