import type { Descriptor } from '../addon/addon.js';
import { openDevice } from '../addon/device-file.js';
import { errnoError } from '../errors.js';
import { XENSTORE_PAYLOAD_MAX, type XenstoreTransport, type XenstoreTransportListener } from '../xenstore-transport.js';

/** Of struct xsd_sockmsg (io/xs_wire.h): u32 type, request, transaction, payload length. */
const HEADER_BYTES = 16;
const LENGTH_AT = 12;
/** XS_WATCH_EVENT. */
const WATCH_EVENT = 15;
/** The kernel keeps header and payload of one message in a page. */
const MAX_PAYLOAD = XENSTORE_PAYLOAD_MAX - HEADER_BYTES;
const READ_BYTES = 8192;

/**
 * /dev/xen/xenbus: one message a write(2); answers and watch events come as a byte stream.
 *
 * Only one message is on its way at a time. Linux does not copy a payload: it sends it later out of the one buffer of
 * this descriptor, which the next write(2) fills anew, so that pipelined requests name wrong paths or end in EINVAL.
 * And it carries WATCH and UNWATCH out within the write(2), holding a lock that it also takes to queue the replies to
 * earlier requests: with one of those on its way, the write never returns, and neither does any other use of xenstore
 * in this domain (both seen with Linux 6.12).
 *
 * So this, alone among the transports, must know where a message ends.
 */
export class XenstoreDevice implements XenstoreTransport {
  readonly description: string;
  readonly maxPayload = MAX_PAYLOAD;
  readonly #device: Descriptor;
  readonly #replies = new ReplyCounter();
  readonly #queue: Uint8Array[] = [];
  #listener: XenstoreTransportListener | undefined;
  #unanswered = 0;
  #keepAlive = true;

  constructor(directory: string) {
    this.description = `${directory}/xenbus`;
    this.#device = openDevice(directory, 'xenbus');
  }

  start(listener: XenstoreTransportListener): void {
    this.#listener = listener;
    const chunk = new Uint8Array(READ_BYTES);
    const result = this.#device.listen(chunk, (bytes) => {
      if (bytes > 0) this.#receive(chunk.slice(0, bytes), listener);
      else this.#fail(bytes, 'read');
    });
    if (result < 0) this.#fail(result, 'poll');
    this.#device.keepAlive(this.#keepAlive);
  }

  send(message: Uint8Array): void {
    this.#queue.push(message);
    this.#flush();
  }

  ref(): void {
    this.#keepAlive = true;
    this.#device.keepAlive(true);
  }

  unref(): void {
    this.#keepAlive = false;
    this.#device.keepAlive(false);
  }

  async close(): Promise<void> {
    this.#end(undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #receive(chunk: Uint8Array, listener: XenstoreTransportListener): void {
    this.#unanswered -= this.#replies.push(chunk);
    this.#flush();
    listener.data(chunk);
  }

  #flush(): void {
    if (this.#unanswered > 0 || this.#device.fd < 0) return;
    const message = this.#queue.shift();
    if (message === undefined) return;
    this.#unanswered++;
    const result = this.#device.write(message, message.length);
    // Reported later, as a socket would: the caller is in the middle of its own bookkeeping.
    if (result < 0) queueMicrotask(() => this.#fail(result, 'write'));
  }

  #fail(result: number, call: string): void {
    this.#end(errnoError(result, `xenstore.${call}`, this.description));
  }

  #end(error: Error | undefined): void {
    if (this.#device.fd < 0) return;
    this.#device.close();
    this.#listener?.close(error);
  }
}

/** Counts the replies in a stream of messages: everything but watch events. */
export class ReplyCounter {
  readonly #header = Buffer.alloc(HEADER_BYTES);
  #headerBytes = 0;
  #payloadLeft = 0;

  /** How many replies end in this chunk. */
  push(chunk: Uint8Array): number {
    let replies = 0;
    for (let at = 0; at < chunk.length; ) {
      at += this.#headerBytes < HEADER_BYTES ? this.#takeHeader(chunk, at) : this.#takePayload(chunk.length - at);
      if (this.#headerBytes < HEADER_BYTES || this.#payloadLeft > 0) continue;
      this.#headerBytes = 0;
      if (this.#header.readUInt32LE(0) !== WATCH_EVENT) replies++;
    }
    return replies;
  }

  #takeHeader(chunk: Uint8Array, at: number): number {
    const taken = Math.min(HEADER_BYTES - this.#headerBytes, chunk.length - at);
    this.#header.set(chunk.subarray(at, at + taken), this.#headerBytes);
    this.#headerBytes += taken;
    if (this.#headerBytes === HEADER_BYTES) this.#payloadLeft = this.#header.readUInt32LE(LENGTH_AT);
    return taken;
  }

  #takePayload(available: number): number {
    const taken = Math.min(this.#payloadLeft, available);
    this.#payloadLeft -= taken;
    return taken;
  }
}
