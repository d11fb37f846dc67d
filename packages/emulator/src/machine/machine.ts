import type { XenstoreTransport } from '@xenpv/xen-sys';
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

/** The emulated machine as one thread sees it: the domains, and the lock of their event channels. */
export abstract class Machine {
  /** What threads find each other by. */
  abstract readonly name: string;
  readonly #domains = new Map<number, MachineDomain>();
  readonly lockWord: Int32Array;
  readonly lock: SharedLock;

  constructor(lock: SharedArrayBuffer) {
    this.lockWord = new Int32Array(lock);
    this.lock = new SharedLock(this.lockWord, 0);
  }

  /** A connection to xenstored as domain `domid`. */
  abstract connectXenstore(domid: number): Promise<XenstoreTransport>;

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
    const domain = { memory, grants: new Grants(memory), ports: new Ports(memory) };
    this.#domains.set(memory.domid, domain);
    return domain;
  }

  protected forget(domid: number): void {
    this.#domains.delete(domid);
  }

  /** Closes a port, as its owner does or as the end of its domain does: the other end waits for this domain again. */
  closePort(domain: MachineDomain, port: number): void {
    this.lock.run(() => {
      if (domain.ports.state(port) === PortState.interdomain) {
        const remotePort = domain.ports.remotePort(port);
        const remote = this.find(domain.ports.remoteDomid(port));
        if (remote?.ports.isPeerOf(remotePort, domain.memory.domid, port)) remote.ports.disconnect(remotePort);
      }
      domain.ports.free(port);
    });
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
