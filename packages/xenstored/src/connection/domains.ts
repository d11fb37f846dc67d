import { parseDomid } from '@xenpv/xen-sys';
import type { NodeOwner, NodeOwners } from '../tree/owners.js';
import type { NodePermission } from '../tree/permissions.js';
import type { EventCause } from '../watches/watches.js';
import { guestQuotas, type MutableQuotas, privilegedQuotas } from './limits.js';

/** What xenstored knows of a domain: since when, and how much of its quotas it uses. */
export class DomainRecord implements NodeOwner, EventCause {
  readonly domid: number;
  /** The store's generation when the domain was first heard of. What nodes say of it from before meant another. */
  readonly generation: number;
  introduced = false;
  /** It is known to have shut down or crashed. */
  shutDown = false;
  /** The domain that this one serves as a device model. */
  target: number | undefined;
  readonly owned = new Set<string>();
  watches = 0;
  transactions = 0;
  /** What it may use. */
  readonly quotas: MutableQuotas;
  /** Bits of docs/misc/xenstore-ring.txt that it is shown. */
  features: number;
  readonly #relieved: (domain: DomainRecord) => void;
  #outstanding = 0;

  constructor(domid: number, generation: number, defaults: DomainDefaults) {
    this.domid = domid;
    this.generation = generation;
    this.quotas = domid === 0 ? privilegedQuotas(defaults.quotas) : guestQuotas(defaults.quotas);
    this.features = defaults.features;
    this.#relieved = defaults.relieved;
  }

  get privileged(): boolean {
    return this.domid === 0;
  }

  /** Replies to it, and events that it caused, which wait to be taken. */
  get outstanding(): number {
    return this.#outstanding;
  }

  /** It takes no replies, or others do not take the events that it caused: it has to wait. */
  get congested(): boolean {
    return this.#outstanding >= this.quotas.outstanding;
  }

  charge(): void {
    this.#outstanding++;
  }

  discharge(): void {
    const was = this.congested;
    this.#outstanding--;
    if (was && !this.congested) this.#relieved(this);
  }
}

/** What a new domain is given. */
export interface DomainDefaults {
  /** What the hypervisor would say: whether there is such a domain. */
  readonly exists: (domid: number) => boolean;
  /** The limits of domains that have none of their own. */
  readonly quotas: MutableQuotas;
  readonly features: number;
  /** Told of a domain that is congested no more. */
  readonly relieved: (domain: DomainRecord) => void;
}

/** The domains that xenstored has heard of. */
export class DomainTable implements NodeOwners {
  readonly domain0: DomainRecord;
  readonly #records = new Map<number, DomainRecord>();
  readonly #defaults: DomainDefaults;
  readonly #generation: () => number;

  /** `generation` gives the store's. */
  constructor(defaults: DomainDefaults, generation: () => number) {
    this.#defaults = defaults;
    this.#generation = generation;
    this.domain0 = this.#add(0, 0);
    this.domain0.introduced = true;
  }

  #add(domid: number, generation: number): DomainRecord {
    const record = new DomainRecord(domid, generation, this.#defaults);
    this.#records.set(domid, record);
    return record;
  }

  get(domid: number): DomainRecord | undefined {
    return this.#records.get(domid);
  }

  /** The record of a domain, made now if the domain exists, or undefined. */
  open(domid: number): DomainRecord | undefined {
    const known = this.#records.get(domid);
    if (known !== undefined) return known;
    if (parseDomid(domid) === undefined) return undefined;
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
