import type { Connection, ConnectionPort } from '../connection/connection.js';

/** What a way to reach xenstored asks of the daemon. */
export interface PortHost {
  open(port: ConnectionPort): Connection;
  /** Requests were put into the connection. */
  input(connection: Connection): void;
  closed(connection: Connection): void;
}
