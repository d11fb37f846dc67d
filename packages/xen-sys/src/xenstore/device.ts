import type { Descriptor } from '../addon/addon.js';
import { openDevice } from '../addon/device-file.js';
import { errnoError } from '../errors.js';
import type { XenstoreTransport, XenstoreTransportListener } from '../xenstore-transport.js';
import { ReplyCounter } from './replies.js';

/** The kernel keeps header (16 bytes) and payload of one message in 4096 bytes. */
const MAX_PAYLOAD = 4080;
const READ_BYTES = 8192;

/**
 * /dev/xen/xenbus: one message a write(2); answers and watch events come as a byte stream.
 *
 * Only one message is on its way at a time. Linux does not copy a payload: it sends it later out of the one buffer of
 * this descriptor, which the next write(2) fills anew, so that pipelined requests name wrong paths or end in EINVAL.
 * And it carries WATCH and UNWATCH out within the write(2), holding a lock that it also takes to queue the replies to
 * earlier requests: with one of those on its way, the write never returns, and neither does any other use of xenstore
 * in this domain (both seen with Linux 6.12).
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
