import type { DeviceAction, DeviceView } from '../reducer.js';
import { XenbusState } from '../states.js';
import type { GuestAccount } from './guest-account.js';

/** A state that is written. */
const STATE = 1;
/** Rings that are mapped. */
const CONNECT = 4;
/** An image that is opened. */
const PREPARE = 8;

/**
 * Keeps a guest from making the bus do more for a device than others leave time for. What the toolstack asks for never
 * waits, nor does a first connection, nor what an earlier process has left. What the guest asks for too fast is done later:
 * the state that it has then is the one that counts, so that nothing is lost.
 */
export class DevicePace implements Disposable {
  readonly #account: GuestAccount;
  readonly #again: () => void;
  #timer: NodeJS.Timeout | undefined;
  #hasConnected = false;

  /** `again`: look at the device. */
  constructor(account: GuestAccount, again: () => void) {
    this.#account = account;
    this.#again = again;
  }

  /** The frontend's watch has told something. Whether to look now; otherwise `again` is called later. */
  mayLook(): boolean {
    const account = this.#account;
    account.watchEvents++;
    const wait = this.#timer === undefined ? account.looks.take(1) : 1;
    if (wait === 0) return true;
    account.watchEventsDelayed++;
    this.#later(wait);
    return false;
  }

  /** Whether to take a step now; otherwise `again` is called when it can be. */
  mayTake(action: DeviceAction, view: DeviceView): boolean {
    const connects = action.do === 'connect' && isAsked(action, view);
    if (connects && !this.#hasConnected) {
      this.#hasConnected = true;
      return true;
    }
    const cost = isAsked(action, view) ? costOf(action) : 0;
    const wait = cost === 0 ? 0 : this.#account.steps.take(cost);
    if (wait === 0) {
      if (connects) this.#account.reconnects++;
      return true;
    }
    if (connects && this.#timer === undefined) this.#account.reconnectsDelayed++;
    this.#later(wait);
    return false;
  }

  #later(ms: number): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#again();
    }, ms).unref();
  }

  /** Nothing is called again. */
  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}

/** Whether it is the guest that asks for it. */
function isAsked(action: DeviceAction, view: DeviceView): boolean {
  const { backend, connected, online } = view;
  switch (action.do) {
    case 'prepare':
      return backend === XenbusState.closed || (backend === XenbusState.connected && action.state !== undefined);
    case 'connect':
      return !connected && backend !== XenbusState.connected;
    case 'disconnect':
    case 'setState':
      return online;
    default:
      return false;
  }
}

function costOf(action: DeviceAction): number {
  if (action.do === 'prepare') return PREPARE;
  return action.do === 'connect' ? CONNECT : STATE;
}
