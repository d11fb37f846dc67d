/** What a copy of a disk is written to, as the disk's helper reaches it: an NBD server on a Unix socket. */
export interface CopyTarget {
  /** In the folder that the helper sees. */
  readonly socket: string;
  readonly exportName: string;
  /**
   * What was written, and is on stable storage, has its final name when this resolves. Error: ERR_IMAGE, the name is taken by
   * now.
   */
  complete(): Promise<void>;
  /** Resolves with why when it cannot be written to any more; never if that does not happen before it is closed. */
  readonly lost: Promise<string>;
  /** Ends its use. What was made for a backup that has failed is removed. Never rejects. */
  close(how: 'copied' | 'failed'): Promise<void>;
}

/** What the configuration allows. */
export interface TargetPolicy {
  /** Images, and so targets, must be in or below one of these directories; anywhere if undefined. */
  readonly directories?: readonly string[] | undefined;
  readonly backingFiles?: boolean | undefined;
  /** Hosts of NBD servers; see ImageOpenerOptions. */
  readonly nbdHosts?: readonly string[] | undefined;
  /** See StorageDaemonOptions' `user`. */
  readonly helperUser?: string | undefined;
}
