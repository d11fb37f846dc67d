/** How a trace is replayed. */
export interface ReplayOptions {
  /** Times as quick as it was; undefined: as fast as possible. */
  readonly speed: number;
  readonly fast?: boolean;
  readonly overwrite?: boolean;
  readonly readsOnly?: boolean;
  readonly depth: number;
  readonly json?: boolean;
}
