import type { QueryOptions } from '../queries/query.js';

/** What of a disk's requests is traced, and for how long. */
export interface TraceOptions extends QueryOptions {
  readonly op?: readonly string[];
  readonly queue?: number;
  /** Milliseconds. */
  readonly minLatency?: number;
  /** Lines. */
  readonly limit?: number;
  readonly seconds?: number;
  /** A file to write to. */
  readonly write?: string;
}
