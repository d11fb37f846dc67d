import { ByteRing, XENSTORE_RING } from '@xenpv/ring';
import { MessageDecoder } from '@xenpv/xenstore';
import type { ServerConnection } from '../connection/connection.js';
import type { PortHost } from '../connection/connections.js';
import type { Port } from '../connection/port.js';
import { RingBell } from './ring-bell.js';
import { type RingPage, ringMemory, ringWords } from './ring-page.js';

/** XENSTORE_ERROR_* of io/xs_wire.h. */
const ErrorWord = { none: 0, communication: 1, ringIndex: 2, protocol: 3 } as const;

/** A domain's ring as the host's event channels drive it. */
export interface AttachedRing {
  /** The guest's event channel fired: requests are taken, and replies given that had no room. */
  kick(): void;
}

/** xenstored's end of a domain's ring. */
export class RingPort implements Port, AttachedRing {
  readonly #host: PortHost;
  readonly #connection: ServerConnection;
  readonly #requests: ByteRing;
  readonly #responses: ByteRing;
  readonly #words: Int32Array;
  readonly #decoder = new MessageDecoder();
  readonly #bell: RingBell | undefined;
  readonly #notify: () => void;
  #writing: Buffer | undefined;
  #written = 0;
  #closed = false;

  constructor(page: RingPage, notify: (() => void) | undefined, host: PortHost) {
    this.#host = host;
    const memory = ringMemory(page);
    this.#requests = new ByteRing(memory, XENSTORE_RING.requests);
    this.#responses = new ByteRing(memory, XENSTORE_RING.responses);
    this.#words = ringWords(page);
    this.#connection = host.open(this);
    Atomics.store(this.#words, XENSTORE_RING.serverFeatures >> 2, this.#connection.domain.features);
    this.#bell = notify ? undefined : new RingBell(page, 'server', () => this.kick());
    this.#notify = notify ?? (() => this.#bell?.ring());
  }

  kick(): void {
    if (this.#closed) return;
    this.#receive();
    this.outputReady();
  }

  /** Takes bytes until they make a request. The rest waits until that is carried out: a guest can refill its ring. */
  #receive(): void {
    while (!this.#closed && !this.#connection.domain.congested && this.#connection.idle) {
      const bytes = this.#requests.readAll();
      if (bytes === undefined) {
        this.#end(ErrorWord.ringIndex);
        return;
      }
      if (bytes.length === 0) return;
      this.#notify();
      try {
        this.#connection.receive(this.#decoder.push(bytes));
      } catch {
        this.#end(ErrorWord.protocol);
        return;
      }
      this.#host.input(this.#connection);
    }
  }

  outputReady(): void {
    let progress = false;
    while (!this.#closed && (this.#writing ??= this.#connection.take()) !== undefined) {
      const count = this.#responses.write(this.#writing, this.#written);
      if (count < 0) this.#end(ErrorWord.ringIndex);
      if (count <= 0) break;
      progress = true;
      this.#written += count;
      if (this.#written < this.#writing.length) continue;
      this.#writing = undefined;
      this.#written = 0;
    }
    if (progress) this.#notify();
  }

  mayBringMore(): void {
    this.#receive();
  }

  failed(): void {
    this.#end(ErrorWord.communication);
  }

  /** Ends the service; the guest sees the error word. */
  close(): void {
    this.#end(ErrorWord.communication);
  }

  #end(error: number): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#host.closed(this.#connection);
    Atomics.store(this.#words, XENSTORE_RING.error >> 2, error);
    this.#notify();
    this.#bell?.stop();
  }
}
