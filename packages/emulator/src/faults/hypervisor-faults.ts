import { type Domid, type EvtchnPort, GrantStatus, type Gref } from '@xenpv/xen-sys';
import { layOver } from '../layers.js';
import type { Machine, MachineDomain } from '../machine/machine.js';
import type { HostFault } from './host-fault.js';
import { Late, type Lateness } from './late.js';

/** An event that a port of a domain should have. */
export interface EventTarget {
  /** Whose event it is: the receiver. */
  readonly domid: Domid;
  /** Its port; all ports if not given. */
  readonly port?: EvtchnPort | undefined;
}

/** A page that a domain granted. */
export interface GrantTarget {
  /** Who granted it. */
  readonly domid: Domid;
  /** All its references if not given. */
  readonly ref?: Gref | undefined;
  /** The GNTST status that the user is given. */
  readonly status?: number | undefined;
}

/** Events of the target do not arrive, or late. */
export function disturbEvents(
  fault: HostFault,
  domain: MachineDomain,
  target: EventTarget,
  late: Lateness | undefined,
): void {
  const held = late && new Late(late, fault);
  const { ports, memory } = domain;
  const layer = (inner: (port: EvtchnPort) => void) => (port: EvtchnPort) => {
    if ((target.port !== undefined && target.port !== port) || !fault.strikes()) inner(port);
    else held?.hold(() => memory.alive && inner(port));
  };
  fault.onEnd(layOver(ports, 'raise', layer));
}

/** Mapping a page of the target fails; so does the whole call, as it does where one page cannot be mapped. */
export function failMaps(fault: HostFault, machine: Machine, target: GrantTarget): void {
  fault.onEnd(
    layOver(machine, 'mapGrants', (inner) => (domain, granter, refs, frames, access) => {
      const ref = target.ref ?? refs[0];
      const concerned = granter.memory.domid === target.domid && refs.includes(ref);
      if (!concerned || !fault.strikes()) return inner(domain, granter, refs, frames, access);
      frames[0] = ref;
      return target.status ?? GrantStatus.eagain;
    }),
  );
}

/** Copies from and to a page of the target fail, each segment by itself. Maps of it do not. */
export function failCopies(fault: HostFault, machine: Machine, granter: MachineDomain, target: GrantTarget): void {
  let mapping = false;
  const pin = (inner: (ref: Gref, domid: Domid) => number) => (ref: Gref, domid: Domid) => {
    if (mapping || (target.ref !== undefined && target.ref !== ref) || !fault.strikes()) return inner(ref, domid);
    return target.status ?? GrantStatus.generalError;
  };
  fault.onEnd(
    layOver(granter.grants, 'pinToRead', pin),
    layOver(granter.grants, 'pinToWrite', pin),
    layOver(machine, 'mapGrants', (inner) => (...args) => {
      mapping = true;
      try {
        return inner(...args);
      } finally {
        mapping = false;
      }
    }),
  );
}
