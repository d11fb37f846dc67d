import { closeSync, constants, openSync, readFileSync, readSync, writeSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { ByteRing, XENSTORE_RING } from '@xenpv/ring';
import type { XenstoreTransport, XenstoreTransportListener } from '@xenpv/xen-sys';
import { XS_MAX_PAYLOAD } from '../../wire/wire.js';

/** Bytes of the page, and of the rings' data before the indices. */
const PAGE_BYTES = 4096;
const DATA_BYTES = 2048;

/**
 * The store ring of a guest that does not exist: its page is the file `domN.page`, its event channel a pair of FIFOs
 * (see test-servers/no-hypervisor.c). The daemon has the file mapped, so that reads and writes of it are its memory.
 * The rings are moved in a copy of the page, of which our parts are then written.
 */
export class PageFileRing implements XenstoreTransport {
  readonly description: string;
  readonly maxPayload = XS_MAX_PAYLOAD;
  readonly #page: number;
  readonly #copy = new Uint8Array(PAGE_BYTES);
  readonly #requests = new ByteRing(this.#copy, XENSTORE_RING.requests);
  readonly #responses = new ByteRing(this.#copy, XENSTORE_RING.responses);
  readonly #daemonEvents: number;
  readonly #port: Buffer;
  readonly #events: Socket;
  #listener: XenstoreTransportListener | undefined;
  #outgoing: Uint8Array = new Uint8Array(0);
  #closed = false;

  /** For a domain that was introduced to the daemon which runs in `directory`. */
  constructor(directory: string, domid: number) {
    this.description = `${directory} dom${domid}`;
    this.#page = openSync(join(directory, `dom${domid}.page`), 'r+');
    this.#daemonEvents = openSync(join(directory, 'events'), constants.O_RDWR | constants.O_NONBLOCK);
    this.#port = u32(Number(readFileSync(join(directory, `dom${domid}.port`), 'utf8')));
    const events = openSync(join(directory, `dom${domid}.events`), constants.O_RDWR | constants.O_NONBLOCK);
    this.#events = new Socket({ fd: events, readable: true, writable: false });
  }

  start(listener: XenstoreTransportListener): void {
    this.#listener = listener;
    this.#events.on('data', () => this.#pump());
    this.#pump();
  }

  send(message: Uint8Array): void {
    this.#outgoing = Buffer.concat([this.#outgoing, message]);
    this.#pump();
  }

  ref(): void {
    this.#events.ref();
  }

  unref(): void {
    this.#events.unref();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#events.destroy();
    closeSync(this.#page);
    closeSync(this.#daemonEvents);
    this.#listener?.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Moves what can be moved, both ways, and tells the daemon. */
  #pump(): void {
    if (this.#closed) return;
    // The data must be as new as the indices.
    this.#load(DATA_BYTES, PAGE_BYTES - DATA_BYTES);
    this.#load(0, DATA_BYTES);
    const sent = this.#fillRequests();
    const received = this.#takeResponses();
    if (sent || received.length > 0) writeSync(this.#daemonEvents, this.#port);
    if (received.length > 0) this.#listener?.data(received);
  }

  #fillRequests(): boolean {
    const count = this.#requests.write(this.#outgoing);
    if (count <= 0) return false;
    this.#outgoing = this.#outgoing.subarray(count);
    const { data, bytes, producer } = XENSTORE_RING.requests;
    this.#store(data, bytes);
    this.#store(producer, 4);
    return true;
  }

  #takeResponses(): Uint8Array {
    const received = this.#responses.readAll() ?? new Uint8Array(0);
    if (received.length > 0) this.#store(XENSTORE_RING.responses.consumer, 4);
    return received;
  }

  #load(at: number, bytes: number): void {
    readSync(this.#page, this.#copy, at, bytes, at);
  }

  #store(at: number, bytes: number): void {
    writeSync(this.#page, this.#copy, at, bytes, at);
  }
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}
