import type { Machine, MachineDomain } from '../machine/machine.js';
import { Hypercall, type ServedPage } from './thread-page.js';

/** Not a result of any hypercall: the domain is gone. */
const NO_DOMAIN = -3;

/** Grants in use by a thread: how often, by reference, of a domain. */
type Uses = Map<MachineDomain, Map<number, number>>;

/**
 * A thread of another process, as the host knows it: carries out its hypercalls, and remembers what it has, so that
 * {@link end} can do what a kernel does when a process dies.
 */
export class ServedThread {
  readonly page: ServedPage;
  readonly #machine: Machine;
  readonly #handles: { readonly domain: MachineDomain; readonly handle: number }[] = [];
  readonly #mapped = new Map<MachineDomain, Uses>();
  readonly #granted = new Map<MachineDomain, Set<number>>();

  constructor(machine: Machine, page: ServedPage) {
    this.#machine = machine;
    this.page = page;
  }

  /** Carries out the hypercall that waits, if there is one. */
  serve(): void {
    this.page.serve(this.#carryOut);
  }

  /** Closes its ports and handles, and gives back what it mapped, copied and granted. */
  end(): void {
    for (const { domid, ref } of this.page.takeHeld()) this.#machine.find(domid)?.grants.freeEnded(ref);
    for (const { domain, handle } of this.#handles.splice(0)) this.#endHandle(domain, handle);
    for (const [domain, uses] of this.#mapped) {
      for (const [granter, refs] of uses) {
        for (const [ref, times] of refs) {
          this.#machine.unmapGrants(domain, granter, new Uint32Array(times).fill(ref));
        }
      }
    }
    this.#mapped.clear();
    for (const [domain, refs] of this.#granted) {
      if (domain.memory.alive) this.#machine.endGrants(domain, Uint32Array.from(refs));
    }
    this.#granted.clear();
  }

  #endHandle(domain: MachineDomain, handle: number): void {
    if (!domain.memory.alive) return;
    for (const port of domain.ports.ofHandle(handle)) this.#machine.closePort(domain, port);
    this.#machine.closeHandle(domain, handle);
  }

  readonly #carryOut = (call: number, args: Int32Array, list: Uint32Array): number => {
    const machine = this.#machine;
    const first = machine.find(args[0]);
    if (first === undefined) return NO_DOMAIN;
    const second = (): MachineDomain | undefined => machine.find(args[1]);
    switch (call) {
      case Hypercall.openHandle:
        return this.#openHandle(first);
      case Hypercall.closeHandle:
        return this.#closeHandle(first, args[1]);
      case Hypercall.bindUnbound: {
        const remote = machine.find(args[2]);
        return remote === undefined ? NO_DOMAIN : machine.bindUnbound(first, args[1], remote);
      }
      case Hypercall.bindInterdomain: {
        const remote = machine.find(args[2]);
        return remote === undefined ? NO_DOMAIN : machine.bindInterdomain(first, args[1], remote, args[3]);
      }
      case Hypercall.closePort:
        machine.closePort(first, args[1]);
        return 0;
      case Hypercall.mapGrants: {
        const granter = second();
        return granter === undefined ? NO_DOMAIN : this.#map(first, granter, args[2] !== 0, list);
      }
      case Hypercall.unmapGrants: {
        const granter = second();
        return granter === undefined ? NO_DOMAIN : this.#unmap(first, granter, list);
      }
      case Hypercall.grantNew:
        return this.#grant(first, args[1], args[2] !== 0, list);
      case Hypercall.endGrants:
        for (const ref of list) this.#granted.get(first)?.delete(ref);
        machine.endGrants(first, list);
        return 0;
      case Hypercall.freeEnded:
        first.grants.freeEnded(args[1]);
        return 0;
      default:
        return NO_DOMAIN;
    }
  };

  #openHandle(domain: MachineDomain): number {
    const handle = this.#machine.openHandle(domain);
    if (handle >= 0) this.#handles.push({ domain, handle });
    return handle;
  }

  #closeHandle(domain: MachineDomain, handle: number): number {
    const at = this.#handles.findIndex((open) => open.domain === domain && open.handle === handle);
    if (at < 0) return -1;
    this.#handles.splice(at, 1);
    this.#endHandle(domain, handle);
    return 0;
  }

  #map(domain: MachineDomain, granter: MachineDomain, writable: boolean, list: Uint32Array): number {
    const refs = list.slice();
    const status = this.#machine.mapGrants(domain, granter, refs, list, { writable });
    if (status < 0) return status;
    const uses = getOrMake(
      getOrMake(this.#mapped, domain, () => new Map()),
      granter,
      () => new Map<number, number>(),
    );
    for (const ref of refs) uses.set(ref, (uses.get(ref) ?? 0) + 1);
    return 0;
  }

  /** Only what this thread mapped: whatever it asks, no other's pages are let go of. */
  #unmap(domain: MachineDomain, granter: MachineDomain, refs: Uint32Array): number {
    const uses = this.#mapped.get(domain)?.get(granter);
    for (const ref of refs) {
      const times = uses?.get(ref);
      if (uses === undefined || times === undefined) continue;
      if (times === 1) uses.delete(ref);
      else uses.set(ref, times - 1);
      this.#machine.unmapGrants(domain, granter, Uint32Array.of(ref));
    }
    return 0;
  }

  #grant(domain: MachineDomain, user: number, writable: boolean, list: Uint32Array): number {
    const first = this.#machine.grantNew(domain, user, list, { writable });
    if (first < 0) return first;
    const granted = getOrMake(this.#granted, domain, () => new Set<number>());
    for (const ref of list) granted.add(ref);
    return first;
  }
}

function getOrMake<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) {
    value = make();
    map.set(key, value);
  }
  return value;
}
