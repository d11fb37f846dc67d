/**
 * The disk behind an NBD export. Offsets and lengths are in bytes and multiples of `blockSize`; the server checks
 * them, and the end of the disk, before it calls. A rejected operation's `code`, an errno name, reaches the client.
 */
export interface NbdDisk {
  /** Bytes. */
  readonly size: number;
  /** Bytes. */
  readonly blockSize: number;
  readonly readOnly: boolean;
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
