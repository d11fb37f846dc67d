import type { OperationOptions, TreeSchema } from '@xenpv/xenstore';
import type { BackendBus } from '../bus.js';
import type { PvDevice } from './pv-device.js';
import type { PvHandler } from './pv-handler.js';

/** A backend that serves, see {@link servePv}. */
export class PvServer<K extends TreeSchema, C extends TreeSchema, D extends PvDevice<K, C>> implements AsyncDisposable {
  /** What finds the devices: their states, what is held, and the guests' counters. */
  readonly bus: BackendBus<PvHandler<K, C, D>>;
  /**
   * Resolves when nothing is discovered any more: with undefined after {@link close}, with an error when the client of
   * xenstore was closed or broke for good.
   */
  readonly closed: Promise<Error | undefined>;
  readonly #release: () => void;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = () => void this.close();
  #closing: Promise<void> | undefined;

  /** `release` closes the handles that the devices share. */
  constructor(bus: BackendBus<PvHandler<K, C, D>>, release: () => void, signal: AbortSignal | undefined) {
    this.bus = bus;
    this.closed = bus.closed;
    this.#release = release;
    this.#signal = signal;
    signal?.addEventListener('abort', this.#onAbort, { once: true });
    if (signal?.aborted) this.#onAbort();
  }

  /** The objects that serve devices now, by the devices' names: `vshout-5-0`. */
  get devices(): ReadonlyMap<string, D> {
    const served = [...this.bus.devices].flatMap(({ name, handler }) =>
      handler === undefined ? [] : [[name, handler.device] as const],
    );
    return new Map(served);
  }

  /** See {@link BackendBus.settled}. */
  settled(options: OperationOptions = {}): Promise<void> {
    return this.bus.settled(options);
  }

  /**
   * Disconnects and closes every device with `leave` and leaves the store as it is: frontends wait until another process
   * adopts them. Harmless when repeated. The provider and the store stay open.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    this.#signal?.removeEventListener('abort', this.#onAbort);
    await this.bus.close();
    this.#release();
  }
}
