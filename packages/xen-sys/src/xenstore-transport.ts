/** XENSTORE_PAYLOAD_MAX of io/xs_wire.h: the most that xenstored takes in one message, in bytes. */
export const XENSTORE_PAYLOAD_MAX = 4096;

/** What a transport calls. `data` chunks have any size; `close` comes once, with the error if there was one. */
export interface XenstoreTransportListener {
  /** Bytes came in. */
  data(chunk: Uint8Array): void;
  /** The connection is over. */
  close(error?: Error): void;
}

/**
 * The byte stream under a xenstore client: a Unix socket, /dev/xen/xenbus, or a ring in shared memory. It knows
 * nothing of the protocol but that one call sends one message.
 */
export interface XenstoreTransport extends AsyncDisposable {
  /** What it is connected to, for error messages: a path, `emulator:dom0`. */
  readonly description: string;
  /** The largest payload of one message in bytes: 4096, on /dev/xen/xenbus 4080. */
  readonly maxPayload: number;
  /** Begins delivery. To be called once. */
  start(listener: XenstoreTransportListener): void;
  /** Queues one whole message, header and payload; the transport may keep the array. */
  send(message: Uint8Array): void;
  /** Lets the connection keep the process alive, as it does unless told otherwise. */
  ref(): void;
  /** Lets the process end in spite of the connection. */
  unref(): void;
  /** Sends what is queued, then closes. Harmless when repeated. */
  close(): Promise<void>;
}
