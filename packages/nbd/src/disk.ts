import type { NbdExtent } from './protocol/requests.js';

/** A meta context: what is known of the ranges of a disk, besides their bytes. */
export interface NbdContext {
  /** As clients ask for it, a namespace and a colon first: `base:allocation`. At most 4096 bytes. */
  readonly name: string;
  /**
   * Tells of `length` bytes at byte `offset`, or of the beginning of them: ranges that follow each other, of lengths that
   * are multiples of the disk's `blockSize`. A rejection is as one of the disk's operations.
   */
  status(offset: number, length: number): Promise<readonly NbdExtent[]>;
}

/**
 * The disk behind an NBD export. Offsets and lengths are in bytes and multiples of `blockSize`; the server checks
 * them, and the end of the disk, before it calls. A rejected operation's `code`, an errno name, reaches the client.
 */
export interface NbdDisk {
  /** Bytes. Clients are told it when they choose the export; each request is checked against what it is by then. */
  readonly size: number;
  /** Bytes: a power of two, at most 65536. Clients are told it as the minimum block size. */
  readonly blockSize: number;
  /** Clients are told (NBD_FLAG_READ_ONLY), and writes, trims and write zeroes are answered with EPERM. */
  readonly readOnly: boolean;
  /** What clients may ask for besides data; nothing if undefined. */
  readonly contexts?: readonly NbdContext[] | undefined;
  /** The bytes may be sent later: they must not change. */
  read(offset: number, length: number): Promise<Uint8Array>;
  /** Writes `data` at byte `offset`. */
  write(offset: number, data: Uint8Array): Promise<void>;
  /** Everything written and acknowledged before, by any client, is on stable storage when it resolves. */
  flush(): Promise<void>;
  /** Absent: the export offers no TRIM. */
  discard?(offset: number, length: number): Promise<void>;
  /** Absent: the server writes zeroes. */
  writeZeroes?(offset: number, length: number): Promise<void>;
}
