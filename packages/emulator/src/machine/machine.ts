/**
 * The machine as one thread sees it: its domains, and what only a hypervisor may do, which is to change tables that
 * several domains see. Events and copies are not among it: they need no more than the memory, and are done by whoever
 * sends or copies.
 */
import { Errno, type EventChannels, GrantStatus, type XenstoreTransport } from '@xenpv/xen-sys';
import { Grants } from './grants.js';
import { SharedLock } from './lock.js';
import { DomainMemory, type DomainSnapshot } from './memory.js';
import { PortState, Ports } from './ports.js';

/** A domain as one thread sees it. */
export interface MachineDomain {
  readonly memory: DomainMemory;
  readonly grants: Grants;
  readonly ports: Ports;
}

/** How pages are taken into use. */
export interface GrantAccess {
  readonly writable: boolean;
}

/** The emulated machine as one thread sees it: the domains, and the lock of their event channels. */
export abstract class Machine {
  /** What threads find each other by. */
  abstract readonly name: string;
  readonly #domains = new Map<number, MachineDomain>();
  readonly lockWord: Int32Array;
  /** Whether no other thread may have it. */
  oneThread = false;
  /** Told of each handle that is opened on event channels. */
  opened: ((channels: EventChannels) => void) | undefined;
  readonly #lock: SharedLock;

  constructor(lock: ArrayBufferLike) {
    this.lockWord = new Int32Array(lock);
    this.#lock = new SharedLock(this.lockWord, 0);
  }

  /** A connection to xenstored as domain `domid`. */
  abstract connectXenstore(domid: number, signal?: AbortSignal): Promise<XenstoreTransport>;

  /** What another thread sees this machine by, as domain `domid`: the data of a SharedProvider. */
  abstract shared(domid: number): unknown;

  /** The living domain `domid`. */
  find(domid: number): MachineDomain | undefined {
    const domain = this.#domains.get(domid);
    return domain?.memory.alive === true ? domain : undefined;
  }

  domains(): MachineDomain[] {
    return [...this.#domains.values()].filter((domain) => domain.memory.alive);
  }

  protected add(snapshot: DomainSnapshot | DomainMemory): MachineDomain {
    const memory = snapshot instanceof DomainMemory ? snapshot : new DomainMemory(snapshot);
    const domain = { memory, grants: this.grantsOf(memory), ports: new Ports(memory) };
    this.#domains.set(memory.domid, domain);
    return domain;
  }

  protected grantsOf(memory: DomainMemory): Grants {
    return new Grants(memory);
  }

  protected forget(domid: number): void {
    this.#domains.get(domid)?.ports.letGo();
    this.#domains.delete(domid);
  }

  /** Domains that another thread has destroyed. */
  protected forgetDead(): void {
    for (const [domid, { memory }] of this.#domains) if (!memory.alive) this.forget(domid);
  }

  /** An event-channel handle for this thread; -1 if all are taken. */
  openHandle(domain: MachineDomain): number {
    return domain.ports.openHandle();
  }

  /** Its ports must be closed. */
  closeHandle(domain: MachineDomain, handle: number): void {
    domain.ports.closeHandle(handle);
  }

  /** Takes a port for `handle` that `remote` may bind: the port, or -1 if there is none. */
  bindUnbound(domain: MachineDomain, handle: number, remote: MachineDomain): number {
    return this.#lock.run(() => domain.ports.allocate(handle, remote.memory.domid));
  }

  /** Binds a new port of `handle` to `remotePort`: the port, -1 if there is none, or EINVAL. */
  bindInterdomain(domain: MachineDomain, handle: number, remote: MachineDomain, remotePort: number): number {
    return this.#lock.run(() => {
      if (!remote.ports.isOpenTo(remotePort, domain.memory.domid)) return Errno.EINVAL;
      const local = domain.ports.allocate(handle, remote.memory.domid);
      if (local < 0) return local;
      domain.ports.connect(local, remote.memory.domid, remotePort);
      remote.ports.connect(remotePort, domain.memory.domid, local);
      return local;
    });
  }

  /** Closes a port, as its owner does or as the end of its domain does: the other end waits for this domain again. */
  closePort(domain: MachineDomain, port: number): void {
    this.#lock.run(() => {
      if (domain.ports.state(port) === PortState.interdomain) {
        const remotePort = domain.ports.remotePort(port);
        const remote = this.find(domain.ports.remoteDomid(port));
        if (remote?.ports.isPeerOf(remotePort, domain.memory.domid, port)) remote.ports.disconnect(remotePort);
      }
      domain.ports.free(port);
    });
  }

  /**
   * Takes pages of `granter` into use for `domain` until {@link unmapGrants}, and fills in their frames. All or none:
   * returns 0, or a negative GrantStatus with the bad reference in `frames[0]`.
   */
  mapGrants(
    domain: MachineDomain,
    granter: MachineDomain,
    refs: Uint32Array,
    frames: Uint32Array,
    { writable }: GrantAccess,
  ): number {
    const { domid } = domain.memory;
    for (let i = 0; i < refs.length; i++) {
      const frame = writable ? granter.grants.pinToWrite(refs[i], domid) : granter.grants.pinToRead(refs[i], domid);
      if (frame < 0) {
        for (let done = 0; done < i; done++) granter.grants.unpin(refs[done]);
        frames[0] = refs[i];
        return frame;
      }
      frames[i] = frame;
    }
    return GrantStatus.okay;
  }

  /** Undoes {@link mapGrants}. */
  unmapGrants(domain: MachineDomain, granter: MachineDomain, refs: Uint32Array): void {
    // Its end dropped all that it used.
    if (!domain.memory.alive) return;
    for (const ref of refs) granter.grants.unpin(ref);
  }

  /** {@link Grants.grantNew}. */
  grantNew(domain: MachineDomain, user: number, refs: Uint32Array, access: GrantAccess): number {
    return domain.grants.grantNew(user, refs, access);
  }

  /** {@link Grants.end} for each. */
  endGrants(domain: MachineDomain, refs: Uint32Array): void {
    for (const ref of refs) domain.grants.end(ref);
  }

  /**
   * Wakes all who sleep on event channels. A thread that died may have made a port pending and not rung any more; nobody
   * else would, because a pending port is not rung twice.
   */
  protected wakeAll(): void {
    for (const { memory, ports } of this.domains()) {
      for (let handle = 0; handle < memory.size.handles; handle++) {
        if (ports.isOpen(handle)) ports.doorbell(handle).ringAnew();
      }
    }
  }

  /** What a domain holds now; all zero after its owners have closed everything. */
  usage(domain: MachineDomain): DomainUsage {
    return { ...domain.grants.usage(), ports: domain.ports.used(), eventHandles: domain.ports.openHandles() };
  }

  /** What the hypervisor does at the end of a domain: its ports are closed, its mappings dropped, its waiters woken. */
  protected tearDown(domain: MachineDomain): void {
    const { memory, ports } = domain;
    for (let port = 1; port < memory.size.ports; port++) {
      if (ports.state(port) !== PortState.free) this.closePort(domain, port);
    }
    memory.kill();
    for (const other of this.domains()) other.grants.forgetUser(memory.domid);
    for (let handle = 0; handle < memory.size.handles; handle++) {
      if (ports.isOpen(handle)) ports.doorbell(handle).ring();
    }
  }
}

/** The machine on the thread that made it, which creates and destroys its domains. */
export interface OwnMachine extends Machine {
  create(domid: number, size: DomainMemory['size']): MachineDomain;
  destroy(domid: number): void;
  /** Destroys all domains. Harmless when repeated. */
  close(): void;
}

/** What a domain holds at a moment. */
export interface DomainUsage {
  /** Grants not ended, or ended and still mapped. */
  readonly grants: number;
  /** Of these, the ones that another domain has mapped. */
  readonly mapped: number;
  /** Frames given out. */
  readonly frames: number;
  /** Event-channel ports in use. */
  readonly ports: number;
  /** Event-channel handles open. */
  readonly eventHandles: number;
}
