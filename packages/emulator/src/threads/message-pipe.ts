import { DOORBELL_WORDS, type Doorbell } from '../machine/doorbell.js';
import { ThreadDoorbell } from '../machine/thread-doorbell.js';

/** Bytes that one direction holds. */
const CAPACITY = 16 * 1024;

/** Words before the bytes: one direction's produced and consumed counts, twice, a closed flag, two doorbells. */
const PRODUCED = 0;
const CONSUMED = 1;
const CLOSED = 4;
const DOORBELLS = 8;
const HEADER_WORDS = DOORBELLS + 2 * DOORBELL_WORDS;

const LENGTH_BYTES = 4;

/** What a pipe's end calls. */
export interface MessagePipeListener {
  message(message: Uint8Array): void;
  /** The other end closed. */
  close(): void;
}

/** A two-way stream of messages between two threads in shared memory, which no port has to be transferred for. */
export class MessagePipe {
  readonly #words: Int32Array;
  readonly #out: Uint8Array;
  readonly #in: Uint8Array;
  readonly #outAt: number;
  readonly #inAt: number;
  readonly #doorbell: Doorbell;
  readonly #peer: Doorbell;
  readonly #queue: Uint8Array[] = [];
  #sent = 0;
  #incoming = new Uint8Array(LENGTH_BYTES);
  #received = 0;
  #inMessage = false;
  #listener: MessagePipeListener | undefined;
  #closed = false;

  /** The memory for {@link MessagePipe}; each end is made from it, with 0 or 1. */
  static memory(): SharedArrayBuffer {
    return new SharedArrayBuffer(HEADER_WORDS * 4 + 2 * CAPACITY);
  }

  constructor(memory: SharedArrayBuffer, end: 0 | 1) {
    const other = 1 - end;
    this.#words = new Int32Array(memory, 0, HEADER_WORDS);
    this.#out = new Uint8Array(memory, HEADER_WORDS * 4 + end * CAPACITY, CAPACITY);
    this.#in = new Uint8Array(memory, HEADER_WORDS * 4 + other * CAPACITY, CAPACITY);
    this.#outAt = end * 2;
    this.#inAt = other * 2;
    this.#doorbell = new ThreadDoorbell(this.#words, DOORBELLS + end * DOORBELL_WORDS);
    this.#peer = new ThreadDoorbell(this.#words, DOORBELLS + other * DOORBELL_WORDS);
  }

  start(listener: MessagePipeListener): void {
    this.#listener = listener;
    this.#doorbell.listen(this.#run);
  }

  /** Queues a message; after a close it is dropped. */
  send(message: Uint8Array): void {
    if (this.#closed) return;
    const framed = new Uint8Array(LENGTH_BYTES + message.length);
    new DataView(framed.buffer).setUint32(0, message.length, true);
    framed.set(message, LENGTH_BYTES);
    this.#queue.push(framed);
    this.#flush();
  }

  ref(): void {
    this.#doorbell.ref();
  }

  unref(): void {
    this.#doorbell.unref();
  }

  /** Closes both directions. What was sent and not read yet may be lost. Harmless when repeated. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#doorbell.stop();
    Atomics.store(this.#words, CLOSED, 1);
    this.#peer.ring();
  }

  readonly #run = (): void => {
    this.#flush();
    this.#receive();
    if (this.#closed || Atomics.load(this.#words, CLOSED) === 0) return;
    this.#receive();
    this.close();
    this.#listener?.close();
  };

  #flush(): void {
    const before = Atomics.load(this.#words, this.#outAt + PRODUCED);
    let produced = before;
    let room = CAPACITY - ((produced - Atomics.load(this.#words, this.#outAt + CONSUMED)) | 0);
    while (room > 0 && this.#queue.length > 0) {
      const message = this.#queue[0];
      const at = produced & (CAPACITY - 1);
      const count = Math.min(room, CAPACITY - at, message.length - this.#sent);
      this.#out.set(message.subarray(this.#sent, this.#sent + count), at);
      produced = (produced + count) | 0;
      room -= count;
      this.#sent += count;
      if (this.#sent === message.length) {
        this.#queue.shift();
        this.#sent = 0;
      }
    }
    if (produced === before) return;
    Atomics.store(this.#words, this.#outAt + PRODUCED, produced);
    this.#peer.ring();
  }

  #receive(): void {
    const before = Atomics.load(this.#words, this.#inAt + CONSUMED);
    let consumed = before;
    const produced = Atomics.load(this.#words, this.#inAt + PRODUCED);
    while (consumed !== produced && !this.#closed) {
      const at = consumed & (CAPACITY - 1);
      const count = Math.min((produced - consumed) | 0, CAPACITY - at, this.#incoming.length - this.#received);
      this.#incoming.set(this.#in.subarray(at, at + count), this.#received);
      consumed = (consumed + count) | 0;
      Atomics.store(this.#words, this.#inAt + CONSUMED, consumed);
      this.#received += count;
      if (this.#received === this.#incoming.length) this.#partDone();
    }
    if (consumed !== before) this.#peer.ring();
  }

  /** The length or the message itself is complete. */
  #partDone(): void {
    const part = this.#incoming;
    this.#received = 0;
    this.#inMessage = !this.#inMessage;
    const length = this.#inMessage ? new DataView(part.buffer).getUint32(0, true) : LENGTH_BYTES;
    this.#incoming = new Uint8Array(length);
    if (!this.#inMessage) this.#listener?.message(part);
    else if (length === 0) this.#partDone();
  }
}
