interface Guest {
  readonly number: number;
  rings: number;
}

/**
 * The guests that have rings, by numbers that are never used again: a domain that gets the domid of one that is gone is
 * another guest.
 */
export class Guests {
  readonly #byDomid = new Map<number, Guest>();
  #next = 0;

  /** A ring of the domain comes; returns the guest's number. */
  join(domid: number): number {
    let guest = this.#byDomid.get(domid);
    if (guest === undefined) this.#byDomid.set(domid, (guest = { number: this.#next++, rings: 0 }));
    guest.rings++;
    return guest.number;
  }

  /** A ring of it goes; says whether it was the last one. */
  leave(domid: number): boolean {
    const guest = this.#byDomid.get(domid);
    if (guest === undefined || --guest.rings > 0) return false;
    return this.#byDomid.delete(domid);
  }
}
