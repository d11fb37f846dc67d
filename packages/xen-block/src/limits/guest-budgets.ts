import { formatRateLimits, type RateLimits } from '../rate-limits.js';
import { Budget } from './budget.js';

interface Guest {
  readonly budget: Budget;
  limits: RateLimits;
  readonly disks: Map<object, RateLimits | undefined>;
}

/** What all disks of a guest may do together: a budget a domain, from its first disk to its last. */
export class GuestBudgets {
  readonly #guests = new Map<number, Guest>();
  #configured: RateLimits = {};

  /** For guests of whom no disk says otherwise. */
  configure(limits: RateLimits): void {
    this.#configured = limits;
    for (const guest of this.#guests.values()) this.#update(guest);
  }

  /** A disk of the guest is there. Returns the budget that its rings share with those of the guest's other disks. */
  join(domid: number, disk: object): Budget {
    let guest = this.#guests.get(domid);
    if (!guest) {
      guest = { budget: new Budget(), limits: {}, disks: new Map() };
      this.#guests.set(domid, guest);
    }
    guest.disks.set(disk, undefined);
    this.#update(guest);
    return guest.budget;
  }

  /** It is gone. */
  leave(domid: number, disk: object): void {
    const guest = this.#guests.get(domid);
    if (!guest?.disks.delete(disk)) return;
    if (guest.disks.size === 0) this.#guests.delete(domid);
    else this.#update(guest);
  }

  /** What the disk says of its guest, undefined for nothing. Where disks differ, the latest counts. */
  say(domid: number, disk: object, limits: RateLimits | undefined): void {
    const guest = this.#guests.get(domid);
    if (!guest?.disks.has(disk) || isSame(guest.disks.get(disk), limits)) return;
    guest.disks.delete(disk);
    guest.disks.set(disk, limits);
    this.#update(guest);
  }

  /** What the guest's disks say, or undefined if none does. */
  said(domid: number): RateLimits | undefined {
    return said(this.#guests.get(domid));
  }

  /** What is in force. */
  limits(domid: number): RateLimits {
    return this.#guests.get(domid)?.limits ?? {};
  }

  #update(guest: Guest): void {
    const limits = said(guest) ?? this.#configured;
    // A budget that is set anew has a burst again.
    if (isSame(limits, guest.limits)) return;
    guest.limits = limits;
    guest.budget.set(limits);
  }
}

function isSame(one: RateLimits | undefined, other: RateLimits | undefined): boolean {
  return (one && formatRateLimits(one)) === (other && formatRateLimits(other));
}

function said(guest: Guest | undefined): RateLimits | undefined {
  return [...(guest?.disks.values() ?? [])].filter((limits) => limits !== undefined).at(-1);
}
