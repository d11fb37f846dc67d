import { setTimeout as sleep } from 'node:timers/promises';
import type { DeviceReading } from '../device-nodes.js';
import { Backoff } from '../waiting/backoff.js';
import type { StillWanted } from './still-wanted.js';

interface GuardedCall {
  readonly isWanted: StillWanted;
  readonly interrupt: () => void;
}

/** Looks while a handler's call lasts, as often as it is poked, and interrupts a call that is not wanted any more. */
export class CallGuard {
  readonly #read: () => Promise<DeviceReading>;
  #call: GuardedCall | undefined;
  #isPoked = false;
  #isLooking = false;

  constructor(read: () => Promise<DeviceReading>) {
    this.#read = read;
  }

  async run<T>(guarded: GuardedCall, call: () => Promise<T>): Promise<T> {
    this.#call = guarded;
    try {
      return await call();
    } finally {
      this.#call = undefined;
    }
  }

  /** Something changed, perhaps. */
  poke(): void {
    if (this.#call === undefined) return;
    this.#isPoked = true;
    if (!this.#isLooking) void this.#look();
  }

  async #look(): Promise<void> {
    this.#isLooking = true;
    const backoff = new Backoff();
    for (let call = this.#call; call !== undefined && this.#isPoked; call = this.#call) {
      this.#isPoked = false;
      try {
        const reading = await this.#read();
        if (call === this.#call && !call.isWanted(reading)) call.interrupt();
      } catch {
        // The step that follows the call reports what is wrong with xenstored, if it still is.
        this.#isPoked = true;
        await sleep(backoff.failed());
      }
    }
    this.#isLooking = false;
  }
}
