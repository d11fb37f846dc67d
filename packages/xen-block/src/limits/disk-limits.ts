import type { DiskConfig } from '../disk-description.js';
import { formatRateLimits, type RateLimits } from '../rate-limits.js';
import { Budget } from './budget.js';
import type { GuestBudgets } from './guest-budgets.js';

/** What a disk may do, for all disks or for one whose directory does not say. */
export type DiskLimitsChoice = RateLimits | ((config: DiskConfig) => RateLimits);

/** What is in force for a disk. */
export interface LimitsInForce {
  /** Of the disk alone; what is undefined is not limited. */
  readonly disk: RateLimits;
  /** Of all disks of its guest together; likewise. */
  readonly guest: RateLimits;
}

/** The budgets of one disk: its own, and the one that it shares with the other disks of its guest. */
export class DiskLimits {
  readonly #domid: number;
  readonly #guests: GuestBudgets;
  readonly #own = new Budget();
  readonly #guest: Budget;
  #limits: RateLimits = {};

  constructor(domid: number, guests: GuestBudgets) {
    this.#domid = domid;
    this.#guests = guests;
    this.#guest = guests.join(domid, this);
  }

  /** What the disk's rings keep to together. */
  get budgets(): readonly SharedArrayBuffer[] {
    return [this.#own.buffer, this.#guest.buffer];
  }

  get inForce(): LimitsInForce {
    return { disk: this.#limits, guest: this.#guests.limits(this.#domid) };
  }

  /** What another disk of this guest says of the guest, which this one is to say too; or undefined. */
  get saidOfGuest(): RateLimits | undefined {
    return this.#guests.said(this.#domid);
  }

  /** The disk's configuration is this one now, or what it leaves open is `otherwise` now. */
  configure(config: DiskConfig, otherwise: DiskLimitsChoice): void {
    const limits = config.limits ?? (typeof otherwise === 'function' ? otherwise(config) : otherwise);
    // A budget that is set anew has a burst again.
    if (formatRateLimits(limits) !== formatRateLimits(this.#limits)) this.#own.set(limits);
    this.#limits = limits;
  }

  /** The disk's directory says this of its guest, or nothing. */
  sayOfGuest(limits: RateLimits | undefined): void {
    this.#guests.say(this.#domid, this, limits);
  }

  /** The disk is gone. */
  close(): void {
    this.#guests.leave(this.#domid, this);
  }
}
