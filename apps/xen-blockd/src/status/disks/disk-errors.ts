/** What has gone wrong with a disk since it is there. Dates are in ISO's form. */
export interface DiskErrors {
  /** Why its guest does not get it: it was given up, and is Closing or Closed in xenstore. */
  readonly refused?: RefusedDisk | undefined;
  /** Whether it is over or not. */
  readonly lastError?: DiskError | undefined;
  /** Of a request that the storage failed. */
  readonly lastStorageError?: StorageFailure | undefined;
}

export interface RefusedDisk {
  readonly since: string;
  /** The first word of its error node: `ENOENT`. */
  readonly code: string;
  /** In words; names who has the image, if somebody has. */
  readonly reason: string;
}

export interface DiskError {
  readonly at: string;
  /** As docs/log-events.md has it. */
  readonly kind: string;
  readonly message: string;
  /** How often in a row. */
  readonly count: number;
}

export interface StorageFailure {
  readonly at: string;
  /** `read`, `write`, `barrier`, `flush` or `discard`. */
  readonly operation: string;
  /** The errno's name: `ENOSPC`. */
  readonly errno: string;
  /** Bytes in the image. */
  readonly offset: number;
  /** Bytes; 0 for a flush of no data. */
  readonly length: number;
}
