import { ByteRing, XENSTORE_RING } from '@xenpv/ring';
import type { XenstoreTransport, XenstoreTransportListener } from '@xenpv/xen-sys';
import { XS_MAX_PAYLOAD } from '@xenpv/xenstore';
import { RingBell } from './ring-bell.js';
import { type RingPage, ringMemory, ringWords } from './ring-page.js';

/** What {@link RingTransport} works with. */
export interface RingTransportOptions {
  /** The one that xenstored is given with `attachRing`. */
  readonly page: RingPage;
  /**
   * Notifies xenstored over an event channel; whoever gets events for the guest then calls
   * {@link RingTransport.kick}. Without it both ends use the page's bells.
   */
  readonly notify?: (() => void) | undefined;
  /** For error messages; `emulator:ring` unless given. */
  readonly description?: string | undefined;
}

/** A guest's end of its xenstore ring, on any thread. */
export class RingTransport implements XenstoreTransport {
  readonly description: string;
  readonly maxPayload = XS_MAX_PAYLOAD;
  readonly #requests: ByteRing;
  readonly #responses: ByteRing;
  readonly #words: Int32Array;
  readonly #page: RingPage;
  readonly #notifyServer: (() => void) | undefined;
  readonly #queue: Uint8Array[] = [];
  #queueAt = 0;
  #written = 0;
  #bell: RingBell | undefined;
  #listener: XenstoreTransportListener | undefined;
  #keepAlive: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: RingTransportOptions) {
    this.description = options.description ?? 'emulator:ring';
    this.#page = options.page;
    this.#notifyServer = options.notify;
    const memory = ringMemory(options.page);
    this.#requests = new ByteRing(memory, XENSTORE_RING.requests);
    this.#responses = new ByteRing(memory, XENSTORE_RING.responses);
    this.#words = ringWords(options.page);
  }

  start(listener: XenstoreTransportListener): void {
    this.#listener = listener;
    this.ref();
    if (this.#notifyServer === undefined) {
      this.#bell = new RingBell(this.#page, 'guest', () => this.kick());
    }
    this.#write();
  }

  send(message: Uint8Array): void {
    if (this.#closed) return;
    this.#queue.push(message);
    if (this.#listener !== undefined) this.#write();
  }

  /** xenstored's event channel fired: takes what arrived, and sends what had no room. */
  kick(): void {
    this.#read();
    this.#write();
  }

  #read(): void {
    while (!this.#closed && this.#listener !== undefined) {
      const bytes = this.#responses.readAll();
      if (bytes === undefined) {
        this.#end(new Error('xenstored moved the indices of the ring beyond its size'));
        return;
      }
      if (bytes.length === 0) {
        const error = Atomics.load(this.#words, XENSTORE_RING.error >> 2);
        if (error !== 0) this.#end(new Error(`xenstored gave up the ring of this domain, error ${error}`));
        return;
      }
      this.#notify();
      this.#listener.data(bytes);
    }
  }

  #write(): void {
    let progress = false;
    while (!this.#closed && this.#queueAt < this.#queue.length) {
      const message = this.#queue[this.#queueAt];
      const count = this.#requests.write(message, this.#written);
      if (count <= 0) break;
      progress = true;
      this.#written += count;
      if (this.#written === message.length) this.#sent();
    }
    if (progress) this.#notify();
  }

  #sent(): void {
    this.#written = 0;
    this.#queueAt++;
    if (this.#queueAt < this.#queue.length) return;
    this.#queue.length = 0;
    this.#queueAt = 0;
  }

  #notify(): void {
    if (this.#notifyServer !== undefined) this.#notifyServer();
    else this.#bell?.ring();
  }

  #end(error?: Error): void {
    if (this.#closed) return;
    this.#closed = true;
    this.unref();
    this.#bell?.stop();
    queueMicrotask(() => this.#listener?.close(error));
  }

  /** Lets the connection keep the process alive. */
  ref(): void {
    // A wait for a word of shared memory does not keep the process alive; a timer does.
    if (!this.#closed) this.#keepAlive ??= setInterval(() => {}, 0x7fffffff);
  }

  /** Lets the process end in spite of the connection. */
  unref(): void {
    clearInterval(this.#keepAlive);
    this.#keepAlive = undefined;
  }

  /** Leaves the ring. Harmless when repeated. */
  async close(): Promise<void> {
    this.#end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end();
  }
}
