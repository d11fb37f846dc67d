import type { DeviceAddress } from '@xenpv/xenbus';
import { recoveredChannel, stalledChannel } from '../../diagnostics.js';

/** Tells of storage that hangs: when the oldest request's age passes the threshold, each time it doubles, and the end. */
export class StallWatch {
  readonly #address: DeviceAddress;
  readonly #thresholdMs: number;
  #nextAge: number;
  /** The greatest age since it hangs; 0 while it does not. */
  #longest = 0;

  constructor(address: DeviceAddress, thresholdMs: number) {
    this.#address = address;
    this.#thresholdMs = thresholdMs;
    this.#nextAge = thresholdMs;
  }

  look(ageMs: number, inFlight: number): void {
    if (ageMs < this.#thresholdMs) {
      this.#recovered();
      return;
    }
    this.#longest = Math.max(this.#longest, ageMs);
    if (ageMs < this.#nextAge) return;
    this.#nextAge = 2 * ageMs;
    stalledChannel.publish({ address: this.#address, ageMs, inFlight });
  }

  #recovered(): void {
    if (this.#longest === 0) return;
    recoveredChannel.publish({ address: this.#address, ageMs: this.#longest });
    this.#longest = 0;
    this.#nextAge = this.#thresholdMs;
  }
}
