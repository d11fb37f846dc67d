import type { Descriptor } from './addon.js';
import { openDevice } from './device.js';
import { errnoError } from './errno.js';
import type { XenstoreTransport, XenstoreTransportListener } from './xenstore-transport.js';

/** The kernel keeps header (16 bytes) and payload of one message in 4096 bytes. */
const MAX_PAYLOAD = 4080;
const READ_BYTES = 8192;

/** /dev/xen/xenbus: one message a write(2); answers and watch events come as a byte stream. */
export class XenstoreDevice implements XenstoreTransport {
  readonly description: string;
  readonly maxPayload = MAX_PAYLOAD;
  readonly #device: Descriptor;
  #listener: XenstoreTransportListener | undefined;
  #keepAlive = true;

  constructor(directory: string) {
    this.description = `${directory}/xenbus`;
    this.#device = openDevice(directory, 'xenbus');
  }

  start(listener: XenstoreTransportListener): void {
    this.#listener = listener;
    const chunk = new Uint8Array(READ_BYTES);
    const result = this.#device.listen(chunk, (bytes) => {
      if (bytes > 0) listener.data(chunk.slice(0, bytes));
      else this.#fail(bytes, 'read');
    });
    if (result < 0) this.#fail(result, 'poll');
    this.#device.keepAlive(this.#keepAlive);
  }

  send(message: Uint8Array): void {
    if (this.#device.fd < 0) return;
    const result = this.#device.write(message, message.length);
    // Reported later, as a socket would: the caller is in the middle of its own bookkeeping.
    if (result < 0) queueMicrotask(() => this.#fail(result, 'write'));
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

  #fail(result: number, call: string): void {
    this.#end(errnoError(result, `xenstore.${call}`, this.description));
  }

  #end(error: Error | undefined): void {
    if (this.#device.fd < 0) return;
    this.#device.close();
    this.#listener?.close(error);
  }
}
