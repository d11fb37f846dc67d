import { closeSync, constants, openSync, readFileSync, readSync, writeSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import type { XenstoreTransport, XenstoreTransportListener } from '@xenpv/xen-sys';
import { XS_MAX_PAYLOAD } from '../../wire/wire.js';

/** Where things are in a store page (docs/misc/xenstore-ring.txt). */
const RING_BYTES = 1024;
const REQUESTS = { data: 0, consumer: 2048, producer: 2052 };
const RESPONSES = { data: 1024, consumer: 2056, producer: 2060 };

/**
 * The store ring of a guest that does not exist: its page is the file `domN.page`, its event channel a pair of FIFOs
 * (see test-servers/no-hypervisor.c). The daemon has the file mapped, so that reads and writes of it are its memory.
 */
export class PageFileRing implements XenstoreTransport {
  readonly description: string;
  readonly maxPayload = XS_MAX_PAYLOAD;
  readonly #page: number;
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
    const sent = this.#fillRequests();
    const received = this.#takeResponses();
    if (sent || received.length > 0) writeSync(this.#daemonEvents, this.#port);
    if (received.length > 0) this.#listener?.data(received);
  }

  #fillRequests(): boolean {
    const producer = this.#read(REQUESTS.producer);
    const free = RING_BYTES - ((producer - this.#read(REQUESTS.consumer)) >>> 0);
    const part = this.#outgoing.subarray(0, free);
    if (part.length === 0) return false;
    for (const { at, from, length } of spans(producer, part.length)) {
      writeSync(this.#page, part, from, length, REQUESTS.data + at);
    }
    this.#outgoing = this.#outgoing.subarray(part.length);
    writeSync(this.#page, u32((producer + part.length) >>> 0), 0, 4, REQUESTS.producer);
    return true;
  }

  #takeResponses(): Uint8Array {
    const consumer = this.#read(RESPONSES.consumer);
    const bytes = Buffer.alloc((this.#read(RESPONSES.producer) - consumer) >>> 0);
    if (bytes.length === 0) return bytes;
    for (const { at, from, length } of spans(consumer, bytes.length)) {
      readSync(this.#page, bytes, from, length, RESPONSES.data + at);
    }
    writeSync(this.#page, u32((consumer + bytes.length) >>> 0), 0, 4, RESPONSES.consumer);
    return bytes;
  }

  #read(at: number): number {
    const word = Buffer.alloc(4);
    readSync(this.#page, word, 0, 4, at);
    return word.readUInt32LE();
  }
}

/** The one or two pieces of a ring that `length` bytes from a free-running `index` cover. */
function spans(index: number, length: number): { at: number; from: number; length: number }[] {
  const at = index % RING_BYTES;
  const first = Math.min(length, RING_BYTES - at);
  return [
    { at, from: 0, length: first },
    { at: 0, from: first, length: length - first },
  ].filter((span) => span.length > 0);
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}
