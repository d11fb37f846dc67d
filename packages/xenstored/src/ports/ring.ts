import { setImmediate as nextTurn } from 'node:timers/promises';
import type { XenstoreTransport, XenstoreTransportListener } from '@xenpv/xen-sys';
import { MessageDecoder, XS_MAX_PAYLOAD } from '@xenpv/xenstore';
import type { ServerConnection } from '../connection/connection.js';
import type { PortHost } from '../connection/connections.js';
import type { Port } from '../connection/port.js';

/**
 * The page that a guest shares with xenstored: struct xenstore_domain_interface of io/xs_wire.h, 4096 bytes at a
 * multiple of 4 in shared memory, zeroed before use. The last two words, which the struct leaves free, are doorbells
 * for ends that have no event channel: each is counted up and notified (Atomics) by the other end.
 */
export interface RingPage {
  readonly buffer: SharedArrayBuffer;
  readonly byteOffset: number;
}

/** Offsets in the page in bytes, and the size of each ring. */
const RING_BYTES = 1024;
const REQUESTS = { data: 0, consumer: 2048, producer: 2052 };
const RESPONSES = { data: 1024, consumer: 2056, producer: 2060 };
const FEATURES = 2064;
const ERROR = 2072;
const SERVER_DOORBELL = 4088;
const GUEST_DOORBELL = 4092;

const ErrorWord = { none: 0, communication: 1, ringIndex: 2, protocol: 3 } as const;

/** One direction of the page. The producer and the consumer each own one index; both run freely through 32 bits. */
class ByteRing {
  readonly #data: Uint8Array;
  readonly #words: Int32Array;
  readonly #consumer: number;
  readonly #producer: number;

  constructor(page: RingPage, offsets: typeof REQUESTS) {
    this.#data = new Uint8Array(page.buffer, page.byteOffset + offsets.data, RING_BYTES);
    this.#words = new Int32Array(page.buffer, page.byteOffset, 1024);
    this.#consumer = offsets.consumer >> 2;
    this.#producer = offsets.producer >> 2;
  }

  /** Bytes in the ring; -1 when the indices cannot be, because the other end is broken. */
  #filled(): number {
    const producer = Atomics.load(this.#words, this.#producer);
    const filled = (producer - Atomics.load(this.#words, this.#consumer)) >>> 0;
    return filled > RING_BYTES ? -1 : filled;
  }

  /** Takes all bytes, as a copy; undefined when there is none; -1 when the indices are wrong. */
  read(): Uint8Array | undefined | -1 {
    const filled = this.#filled();
    if (filled <= 0) return filled === 0 ? undefined : -1;
    const consumer = Atomics.load(this.#words, this.#consumer);
    const bytes = new Uint8Array(filled);
    const at = consumer & (RING_BYTES - 1);
    const first = Math.min(filled, RING_BYTES - at);
    bytes.set(this.#data.subarray(at, at + first));
    bytes.set(this.#data.subarray(0, filled - first), first);
    Atomics.store(this.#words, this.#consumer, consumer + filled);
    return bytes;
  }

  /** Puts what fits of `bytes` from `from` on; returns how many bytes, -1 when the indices are wrong. */
  write(bytes: Uint8Array, from: number): number {
    const filled = this.#filled();
    if (filled < 0) return -1;
    const count = Math.min(bytes.length - from, RING_BYTES - filled);
    const producer = Atomics.load(this.#words, this.#producer);
    const at = producer & (RING_BYTES - 1);
    const first = Math.min(count, RING_BYTES - at);
    this.#data.set(bytes.subarray(from, from + first), at);
    this.#data.set(bytes.subarray(from + first, from + count), 0);
    if (count > 0) Atomics.store(this.#words, this.#producer, producer + count);
    return count;
  }
}

/** Runs `wake` whenever the other end rings a doorbell. */
class Doorbell {
  readonly #words: Int32Array;
  readonly #own: number;
  readonly #other: number;
  readonly #wake: () => void;
  #stopped = false;

  constructor(page: RingPage, own: number, other: number, wake: () => void) {
    this.#words = new Int32Array(page.buffer, page.byteOffset, 1024);
    this.#own = own >> 2;
    this.#other = other >> 2;
    this.#wake = wake;
    void this.#listen();
  }

  async #listen(): Promise<void> {
    while (!this.#stopped) {
      const seen = Atomics.load(this.#words, this.#own);
      this.#wake();
      const wait = Atomics.waitAsync(this.#words, this.#own, seen);
      // An end that rings all the time must not keep this thread from everything else.
      await (wait.async ? wait.value : nextTurn());
    }
  }

  ring(): void {
    Atomics.add(this.#words, this.#other, 1);
    Atomics.notify(this.#words, this.#other);
  }

  stop(): void {
    this.#stopped = true;
    Atomics.notify(this.#words, this.#own);
  }
}

/** xenstored's end of a domain's ring. */
export class RingServer implements Port {
  readonly #host: PortHost;
  readonly #connection: ServerConnection;
  readonly #requests: ByteRing;
  readonly #responses: ByteRing;
  readonly #words: Int32Array;
  readonly #decoder = new MessageDecoder();
  readonly #doorbell: Doorbell | undefined;
  readonly #notify: () => void;
  #writing: Buffer | undefined;
  #written = 0;
  #closed = false;

  constructor(page: RingPage, notify: (() => void) | undefined, host: PortHost) {
    this.#host = host;
    this.#requests = new ByteRing(page, REQUESTS);
    this.#responses = new ByteRing(page, RESPONSES);
    this.#words = new Int32Array(page.buffer, page.byteOffset, 1024);
    this.#connection = host.open(this);
    Atomics.store(this.#words, FEATURES >> 2, this.#connection.domain.features);
    this.#doorbell = notify ? undefined : new Doorbell(page, SERVER_DOORBELL, GUEST_DOORBELL, () => this.kick());
    this.#notify = notify ?? (() => this.#doorbell?.ring());
  }

  /** The guest's event channel fired: takes requests, and gives replies that had no room. */
  kick(): void {
    if (this.#closed) return;
    this.#receive();
    this.outputReady();
  }

  /** Takes bytes until they make a request. The rest waits until that is carried out: a guest can refill its ring. */
  #receive(): void {
    while (!this.#closed && !this.#connection.domain.congested && this.#connection.idle) {
      const bytes = this.#requests.read();
      if (bytes === undefined) return;
      if (bytes === -1) {
        this.#end(ErrorWord.ringIndex);
        return;
      }
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
    Atomics.store(this.#words, ERROR >> 2, error);
    this.#notify();
    this.#doorbell?.stop();
  }
}

/** What {@link RingTransport} works with. */
export interface RingTransportOptions {
  readonly page: RingPage;
  /**
   * Notifies xenstored over an event channel; whoever gets events for the guest then calls
   * {@link RingTransport.kick}. Without it both ends use the page's doorbells.
   */
  readonly notify?: () => void;
  readonly description?: string;
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
  #doorbell: Doorbell | undefined;
  #listener: XenstoreTransportListener | undefined;
  #keepAlive: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: RingTransportOptions) {
    this.description = options.description ?? 'emulator:ring';
    this.#page = options.page;
    this.#notifyServer = options.notify;
    this.#requests = new ByteRing(options.page, REQUESTS);
    this.#responses = new ByteRing(options.page, RESPONSES);
    this.#words = new Int32Array(options.page.buffer, options.page.byteOffset, 1024);
  }

  start(listener: XenstoreTransportListener): void {
    this.#listener = listener;
    this.ref();
    if (this.#notifyServer === undefined) {
      this.#doorbell = new Doorbell(this.#page, GUEST_DOORBELL, SERVER_DOORBELL, () => this.kick());
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
      const bytes = this.#responses.read();
      if (bytes === undefined) {
        const error = Atomics.load(this.#words, ERROR >> 2);
        if (error !== 0) this.#end(new Error(`xenstored gave up the ring of this domain, error ${error}`));
        return;
      }
      if (bytes === -1) {
        this.#end(new Error('xenstored moved the indices of the ring beyond its size'));
        return;
      }
      this.#notify();
      this.#listener.data(bytes);
    }
  }

  #write(): void {
    let progress = false;
    while (!this.#closed && this.#queueAt < this.#queue.length) {
      const message = this.#queue[this.#queueAt]!;
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
    else this.#doorbell?.ring();
  }

  #end(error?: Error): void {
    if (this.#closed) return;
    this.#closed = true;
    this.unref();
    this.#doorbell?.stop();
    queueMicrotask(() => this.#listener?.close(error));
  }

  ref(): void {
    // A wait for a word of shared memory does not keep the process alive; a timer does.
    if (!this.#closed) this.#keepAlive ??= setInterval(() => {}, 0x7fffffff);
  }

  unref(): void {
    clearInterval(this.#keepAlive);
    this.#keepAlive = undefined;
  }

  async close(): Promise<void> {
    this.#end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end();
  }
}
