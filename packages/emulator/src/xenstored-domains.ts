import { FIRST_RESERVED_DOMID } from './xenstored-limits.js';
import type { NodePermission } from './xenstored-permissions.js';

/** What xenstored knows of a domain: since when, and how much of its quotas it uses. */
export class DomainRecord {
  readonly domid: number;
  /** The store's generation when the domain was first heard of. What nodes say of it from before meant another. */
  readonly generation: number;
  introduced = false;
  /** The domain that this one serves as a device model. */
  target: number | undefined;
  /** Paths of the nodes that it owns; not kept for domain 0, which owns most. */
  readonly owned = new Set<string>();
  watches = 0;
  transactions = 0;
  outstanding = 0;

  constructor(domid: number, generation: number) {
    this.domid = domid;
    this.generation = generation;
  }

  get privileged(): boolean {
    return this.domid === 0;
  }
}

/** The domains that xenstored has heard of. */
export class DomainTable {
  readonly #records = new Map<number, DomainRecord>();
  readonly #exists: (domid: number) => boolean;
  readonly #generation: () => number;

  /** `exists` says what the hypervisor would: whether there is such a domain. */
  constructor(exists: (domid: number) => boolean, generation: () => number) {
    this.#exists = exists;
    this.#generation = generation;
    const domain0 = new DomainRecord(0, 0);
    domain0.introduced = true;
    this.#records.set(0, domain0);
  }

  get domain0(): DomainRecord {
    return this.#records.get(0)!;
  }

  get(domid: number): DomainRecord | undefined {
    return this.#records.get(domid);
  }

  /** The record of a domain, made now if the domain exists; undefined when it does not. */
  open(domid: number): DomainRecord | undefined {
    const known = this.#records.get(domid);
    if (known !== undefined) return known;
    if (!Number.isInteger(domid) || domid < 0 || domid >= FIRST_RESERVED_DOMID || !this.#exists(domid))
      return undefined;
    const record = new DomainRecord(domid, this.#generation());
    this.#records.set(domid, record);
    return record;
  }

  /** Forgets a domain: what nodes say of it no longer counts. */
  forget(domid: number): void {
    this.#records.delete(domid);
  }

  /** Whether a node written at `generation` means the domain that has this number now. */
  isCurrent(domid: number, generation: number): boolean {
    const record = this.#records.get(domid);
    return record !== undefined && record.generation <= generation;
  }

  /** Permissions of a node as they count now: an owner that is gone becomes domain 0, other entries become stale. */
  current(permissions: readonly NodePermission[], generation: number): readonly NodePermission[] {
    if (permissions.every((entry) => entry.stale || this.isCurrent(entry.domid, generation))) return permissions;
    return permissions.map((entry, i) => {
      if (entry.stale || this.isCurrent(entry.domid, generation)) return entry;
      return i === 0 ? { ...entry, domid: 0 } : { ...entry, stale: true };
    });
  }

  *[Symbol.iterator](): IterableIterator<DomainRecord> {
    yield* this.#records.values();
  }
}
