import type { NodePermission } from '../tree/permissions.js';
import type { Connection } from './connection.js';
import { FIRST_RESERVED_DOMID } from './domids.js';
import { type MutableQuotas, quotasOf } from './quota.js';

/** What xenstored knows of a domain: since when, and how much of its quotas it uses. */
export class DomainRecord {
  readonly domid: number;
  /** The store's generation when the domain was first heard of. What nodes say of it from before meant another. */
  readonly generation: number;
  introduced = false;
  /** It is known to have shut down or crashed. */
  shutDown = false;
  /** The domain that this one serves as a device model. */
  target: number | undefined;
  /** Paths of the nodes that it owns; not kept for domain 0, which owns most. */
  readonly owned = new Set<string>();
  watches = 0;
  transactions = 0;
  outstanding = 0;
  /** Its open connections. */
  readonly connections = new Set<Connection>();
  /** What it may use. */
  readonly quotas: MutableQuotas;
  /** Bits of docs/misc/xenstore-ring.txt that it is shown. */
  features: number;

  constructor(domid: number, generation: number, quotas: MutableQuotas, features: number) {
    this.domid = domid;
    this.generation = generation;
    this.quotas = quotas;
    this.features = features;
  }

  /** It takes no replies, or others do not take the events that it caused: it has to wait. */
  get congested(): boolean {
    return this.outstanding >= this.quotas.outstanding;
  }

  get privileged(): boolean {
    return this.domid === 0;
  }
}

/** What a new domain is given. */
export interface DomainDefaults {
  /** What the hypervisor would say: whether there is such a domain. */
  readonly exists: (domid: number) => boolean;
  readonly quotas: MutableQuotas;
  readonly features: number;
}

/** The domains that xenstored has heard of. */
export class DomainTable {
  readonly #records = new Map<number, DomainRecord>();
  readonly #defaults: DomainDefaults;
  readonly #generation: () => number;

  /** `generation` gives the store's. */
  constructor(defaults: DomainDefaults, generation: () => number) {
    this.#defaults = defaults;
    this.#generation = generation;
    this.#add(0, 0).introduced = true;
  }

  #add(domid: number, generation: number): DomainRecord {
    const { quotas, features } = this.#defaults;
    const record = new DomainRecord(domid, generation, quotasOf(quotas, domid === 0), features);
    this.#records.set(domid, record);
    return record;
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
    if (!Number.isInteger(domid) || domid < 0 || domid >= FIRST_RESERVED_DOMID) return undefined;
    return this.#defaults.exists(domid) ? this.#add(domid, this.#generation()) : undefined;
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
