/**
 * What can be made to go wrong on a host, at run time. In come targets: domains, ports, references, paths. Each fault lies
 * over what it disturbs only while it is on; a host without faults runs none of this. Nothing here lets a fault outlive
 * its host or keep the process alive.
 */
import { type Domid, XenSysError, type XenstoreTransport } from '@xenpv/xen-sys';
import type { EmulatedXenstored, XenstoredQuotas } from '@xenpv/xenstored';
import type { Machine, MachineDomain } from '../machine/machine.js';
import { type FaultTimes, HostFault } from './host-fault.js';
import { disturbEvents, type EventTarget, failCopies, failMaps, type GrantTarget } from './hypervisor-faults.js';
import type { Lateness } from './late.js';
import { conflictCommits, cutConnections, holdWatches, limit, type WatchTarget } from './xenstore-faults.js';

/**
 * The faults of a host: `using fault = host.faults.loseEvents({ domid, port })`. They act on what is done on the host's
 * own thread, and on what the host does for others: hypercalls of processes and all of xenstore. Copies and events of
 * other threads do not pass the host; a faultyProvider is for those. Error of all: ESRCH no such domain, EINVAL bad times.
 */
export class HostFaults {
  readonly #machine: Machine;
  readonly #xenstored: EmulatedXenstored;
  /** The toolstack's connection, which is the host's own and stays. */
  readonly #own: XenstoreTransport;
  readonly #active = new Set<HostFault>();

  constructor(machine: Machine, xenstored: EmulatedXenstored, own: XenstoreTransport) {
    this.#machine = machine;
    this.#xenstored = xenstored;
    this.#own = own;
  }

  /** The faults that are on. */
  get active(): readonly HostFault[] {
    return [...this.#active];
  }

  /** Events to a domain, or to one port of it, get lost. The one that comes with binding a port is among them. */
  loseEvents(target: EventTarget & FaultTimes): HostFault {
    const domain = this.#domain(target.domid);
    return this.#begin(target, (fault) => disturbEvents(fault, domain, target, undefined));
  }

  /** Events to a domain, or to one port of it, come late: `delayMs` milliseconds, or when the fault ends. */
  holdEvents(target: EventTarget & FaultTimes & Lateness): HostFault {
    const domain = this.#domain(target.domid);
    return this.#begin(target, (fault) => disturbEvents(fault, domain, target, target));
  }

  /**
   * Maps of pages that a domain granted fail, with the error of the `status`: EAGAIN of `eagain`, which is the default,
   * ENOMEM of `noSpace`, EINVAL of any other.
   */
  failMaps(target: GrantTarget & FaultTimes): HostFault {
    this.#domain(target.domid);
    return this.#begin(target, (fault) => failMaps(fault, this.#machine, target));
  }

  /** Copies from and to pages that a domain granted fail with a `status`, GNTST_general_error by default; maps do not. */
  failCopies(target: GrantTarget & FaultTimes): HostFault {
    const domain = this.#domain(target.domid);
    return this.#begin(target, (fault) => failCopies(fault, this.#machine, domain, target));
  }

  /** Transactions that would be committed, of all domains or of `domid`, end with EAGAIN: `{ at: 3 }` is the third. */
  conflict(target: FaultTimes & { readonly domid?: Domid | undefined } = {}): HostFault {
    return this.#begin(target, (fault) => conflictCommits(fault, this.#xenstored, target.domid));
  }

  /**
   * Watch events to a domain, all or those at a path and below, come late: `delayMs` milliseconds, or when the fault
   * ends. Those that are equal come as one, as xenstored sends them to a slow client.
   */
  holdWatches(target: WatchTarget & FaultTimes & Lateness): HostFault {
    this.#domain(target.domid);
    return this.#begin(target, (fault) => holdWatches(fault, this.#xenstored, target, target));
  }

  /**
   * Ends the domain's connections to xenstored, and each new one at once until the fault ends. Each connection that is ended
   * is a hit. The toolstack keeps its own.
   */
  cutXenstore(target: FaultTimes & { readonly domid: Domid }): HostFault {
    this.#domain(target.domid);
    return this.#begin(target, (fault) => cutConnections(fault, this.#xenstored, target.domid, this.#own));
  }

  /**
   * Other limits of xenstored for a domain, domain 0 too; those that it had come back at the end. Hits are requests that
   * were refused with ENOSPC or E2BIG, or EINVAL for too long a path.
   */
  limitXenstore(target: { readonly domid: Domid; readonly quotas: Partial<XenstoredQuotas> }): HostFault {
    this.#domain(target.domid);
    return this.#begin({}, (fault) => limit(fault, this.#xenstored, target.domid, target.quotas));
  }

  /** Ends all of them. */
  end(): void {
    for (const fault of this.#active) fault.end();
  }

  #begin(times: FaultTimes, switchOn: (fault: HostFault) => void): HostFault {
    const fault = new HostFault(times);
    this.#active.add(fault);
    fault.onEnd(() => this.#active.delete(fault));
    switchOn(fault);
    return fault;
  }

  #domain(domid: Domid): MachineDomain {
    const domain = this.#machine.find(domid);
    if (domain === undefined) throw new XenSysError('ESRCH', 'host.faults', `there is no domain ${domid}`);
    return domain;
  }
}
