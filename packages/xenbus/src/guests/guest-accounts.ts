import { GUEST_PACES, GuestAccount, type GuestPaces } from './guest-account.js';

/** The guests that have devices. */
export class GuestAccounts {
  readonly #paces: GuestPaces;
  readonly #accounts = new Map<number, GuestAccount>();

  constructor(paces: Partial<GuestPaces> = {}) {
    this.#paces = { ...GUEST_PACES, ...paces };
  }

  get all(): Iterable<GuestAccount> {
    return this.#accounts.values();
  }

  /** The account of a guest that has a device more. */
  join(domid: number): GuestAccount {
    const account = this.#accounts.get(domid) ?? new GuestAccount(domid, this.#paces);
    this.#accounts.set(domid, account);
    account.addDevice();
    return account;
  }

  /** It has a device less. Only the toolstack takes devices away: a guest cannot begin anew so. */
  leave(domid: number): void {
    const account = this.#accounts.get(domid);
    account?.removeDevice();
    if (account?.isIdle) this.#accounts.delete(domid);
  }
}
