/**
 * How a connection moves bytes: by function calls, over a socket, or over a ring. A port decodes requests into its
 * connection and takes replies and events out of it; it never looks into either.
 */
export interface Port {
  /** There is something to `take` of the connection; said once until everything was taken. */
  outputReady(): void;
  /** The requests that it brought are carried out, or the domain is congested no more: it may bring others. */
  mayBringMore?(): void;
  /** The connection is over, because of what the client did or because the daemon ends it. */
  failed(reason: string): void;
}
