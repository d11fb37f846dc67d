import type { XenstoreClient } from '@xenpv/xenstore';
import { errorChannel } from '../diagnostics.js';
import type { DeviceAddress } from '../paths.js';
import { isXenstoreTrouble } from '../waiting/xenstore-trouble.js';
import { removeErrorNode, writeErrorNode } from './error-node.js';

export interface DeviceErrorsOptions {
  readonly store: XenstoreClient;
  readonly ownDomid: number;
  readonly address: DeviceAddress;
}

/**
 * Where a device's errors are told: on the channel at once, and in its error node as soon as xenstored takes it. The
 * troubles of xenstored itself are only for the channel, and a device that is gone has no node.
 */
export class DeviceErrors {
  readonly #options: DeviceErrorsOptions;
  #directoryIsThere = false;
  #untold: { readonly error: unknown } | undefined;
  #isOver = false;

  constructor(options: DeviceErrorsOptions) {
    this.#options = options;
  }

  /** Whether the device's directory was there at the last look. */
  set directoryIsThere(isThere: boolean) {
    this.#directoryIsThere = isThere;
  }

  async report(error: unknown): Promise<void> {
    errorChannel.publish({ address: this.#options.address, error });
    await this.note(error);
  }

  /** For the node only. */
  async note(error: unknown): Promise<void> {
    if (isXenstoreTrouble(error) || !this.#directoryIsThere) return;
    this.#untold = { error };
    await this.tell().catch(() => {});
  }

  /** Writes what is not in the node yet. Rejects if xenstored is in trouble. */
  async tell(): Promise<void> {
    if (this.#untold === undefined) return;
    const { store, ownDomid, address } = this.#options;
    await writeErrorNode(store, ownDomid, address, this.#untold.error);
    this.#untold = undefined;
  }

  /** The device works, so what the node tells is over. Removed now if xenstored can do it, else by {@link removeIfOver}. */
  async over(): Promise<void> {
    this.#isOver = true;
    await this.removeIfOver().catch(() => {});
  }

  /** Rejects if xenstored is in trouble. */
  async removeIfOver(): Promise<void> {
    if (this.#isOver) await this.remove();
  }

  /** Rejects if xenstored is in trouble. */
  async remove(): Promise<void> {
    this.#untold = undefined;
    const { store, ownDomid, address } = this.#options;
    await removeErrorNode(store, ownDomid, address);
    this.#isOver = false;
  }
}
