import type { XenstoreClient } from '@xenpv/xenstore';
import { errorChannel } from '../diagnostics.js';
import type { GuestAccount } from '../guests/guest-account.js';
import type { DeviceAddress } from '../paths.js';
import { isXenstoreTrouble } from '../waiting/xenstore-trouble.js';
import { removeErrorNode, writeErrorNode } from './error-node.js';

export interface DeviceErrorsOptions {
  readonly store: XenstoreClient;
  readonly ownDomid: number;
  readonly address: DeviceAddress;
  /** Of the guest whose device it is. */
  readonly guest: GuestAccount;
  /** Called when {@link DeviceErrors.tell} may write what it has kept. */
  readonly again: () => void;
}

/**
 * Where a device's errors are told: on the channel at once, and in its error node as soon as xenstored takes it. The
 * troubles of xenstored itself are only for the channel, and a device that is gone has no node. Where a guest causes errors
 * faster than its pace allows, the node has the last one, later.
 */
export class DeviceErrors implements Disposable {
  readonly #options: DeviceErrorsOptions;
  #directoryIsThere = false;
  #untold: { readonly error: unknown } | undefined;
  #isOver = false;
  #timer: NodeJS.Timeout | undefined;

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
    if (this.#timer !== undefined) this.#options.guest.errorNodesDelayed++;
    this.#untold = { error };
    this.#isOver = false;
    await this.tell().catch(() => {});
  }

  /** Writes what is not in the node yet, or does so later. Rejects if xenstored is in trouble. */
  async tell(): Promise<void> {
    if (this.#untold === undefined || this.#mustWait()) return;
    const { store, ownDomid, address } = this.#options;
    const told = this.#untold;
    await writeErrorNode(store, ownDomid, address, told.error);
    // There may be another one by now.
    if (this.#untold === told) this.#untold = undefined;
  }

  #mustWait(): boolean {
    if (this.#timer !== undefined) return true;
    const { guest, again } = this.#options;
    const wait = guest.errorNodeWrites.take(1);
    if (wait === 0) {
      guest.errorNodes++;
      return false;
    }
    guest.errorNodesDelayed++;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      again();
    }, wait).unref();
    return true;
  }

  /** The device works, so what the node tells is over: {@link removeIfOver} removes it, unless there is a new error. */
  over(): void {
    this.#isOver = true;
  }

  /** Removes what is over. Rejects if xenstored is in trouble. */
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

  /** Nothing is called again. */
  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
