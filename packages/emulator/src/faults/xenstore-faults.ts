import type { Domid, XenstoreTransport } from '@xenpv/xen-sys';
import type { EmulatedXenstored, XenstoredQuotas } from '@xenpv/xenstored';
import type { HostFault } from './host-fault.js';
import { Late, type Lateness } from './late.js';

/** Watch events, as a domain should have them. */
export interface WatchTarget {
  /** Whose watches. */
  readonly domid: Domid;
  /** Of changes at this path and below; of all if not given. */
  readonly path?: string | undefined;
}

/** Commits that would succeed fail with EAGAIN. */
export function conflictCommits(fault: HostFault, xenstored: EmulatedXenstored, domid: Domid | undefined): void {
  const conflict = (committer: number) => (domid === undefined || domid === committer) && fault.strikes();
  fault.onEnd(xenstored.intercept({ conflict }));
}

/** Events of watches come late. Equal ones become one, as they do for a client that is slow to read. */
export function holdWatches(
  fault: HostFault,
  xenstored: EmulatedXenstored,
  target: WatchTarget,
  lateness: Lateness,
): void {
  const late = new Late(lateness, fault);
  fault.onEnd(
    xenstored.intercept({
      event: ({ domid, path }, send) => {
        const { path: top } = target;
        const concerned = domid === target.domid && (top === undefined || path === top || path.startsWith(`${top}/`));
        if (concerned && fault.strikes()) late.hold(send);
        else send();
      },
    }),
  );
}

/** Ends the connections of a domain, but one, and each new one at once. */
export function cutConnections(
  fault: HostFault,
  xenstored: EmulatedXenstored,
  domid: Domid,
  except: XenstoreTransport,
): void {
  const ended = xenstored.disconnect(domid, { except });
  fault.seen += ended;
  fault.hits += ended;
  fault.onEnd(xenstored.intercept({ admit: (who) => who !== domid || !fault.strikes() }));
}

/** Other limits for a domain. A hit is a request that was refused for want of room. */
export function limit(
  fault: HostFault,
  xenstored: EmulatedXenstored,
  domid: Domid,
  quotas: Partial<XenstoredQuotas>,
): void {
  const refusals = new Set(['ENOSPC', 'E2BIG', ...(quotas.pathBytes === undefined ? [] : ['EINVAL'])]);
  const refused = (who: number, error: string) => {
    if (who === domid && refusals.has(error)) fault.strikes();
  };
  fault.onEnd(xenstored.limit(domid, quotas), xenstored.intercept({ refused }));
}
