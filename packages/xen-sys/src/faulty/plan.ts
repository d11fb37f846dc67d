import type { ErrnoName } from '../errors.js';
import type { Domid, EvtchnPort, Gref } from '../numbers.js';
import type { ProviderFeatures } from '../provider.js';

/** Which of an operation's calls: they are counted from 1, over all handles and threads of the provider. */
export interface FaultOccasion {
  /** The first call that the fault happens to. */
  readonly at: number;
  /** To how many calls from there on; 1 if not given, Infinity for all. */
  readonly times?: number | undefined;
}

/** The operation is not done: set-up throws a XenSysError with this code, the hot path returns the negative errno. */
export interface Refusal {
  /** `EAGAIN`: any name in the `errno` of node's `os.constants`. */
  readonly error: ErrnoName;
}

/**
 * What happens to an event: it is `lost`; it comes again one turn of the event loop later (`doubled`), as a spurious
 * one does; it is `held` until {@link FaultyProvider.release}; it is sent `delayMs` milliseconds late. The sender is
 * told that all is well.
 */
export type EventFault = Refusal | { readonly event: 'lost' | 'doubled' | 'held' } | { readonly delayMs: number };

/** The connection ends before xenstored gets the request, or after it has carried the request out; or it is refused. */
export type RequestFault = Refusal | { readonly lost: 'before' | 'after' };

/** What a plan's function is told of every call. */
interface Call {
  /** The count of this operation's calls, with this one. */
  readonly number: number;
}

interface MapCall extends Call {
  readonly domid: Domid;
  readonly refs: Uint32Array;
  readonly writable: boolean;
}

interface SegmentCall extends Call {
  readonly domid: Domid;
  readonly ref: Gref;
  /** Whether the segment writes to the grant. */
  readonly toGrant: boolean;
}

/** The operations that faults can happen to: what a plan's function is told, and what it can ask for. */
export interface FaultKinds {
  /** {@link XenProvider.openEventChannels}: no handle is opened. */
  openEventChannels: { call: Call; fault: Refusal };
  /** {@link XenProvider.openGrantTable}: no handle is opened. */
  openGrantTable: { call: Call; fault: Refusal };
  /** {@link XenProvider.openGrantAllocator}: no handle is opened. */
  openGrantAllocator: { call: Call; fault: Refusal };
  /** {@link XenProvider.openForeignMemory}: no handle is opened. */
  openForeignMemory: { call: Call; fault: Refusal };
  /** {@link EventChannels.bindInterdomain}; `domid` and `remotePort` are its arguments. */
  bindInterdomain: { call: Call & { readonly domid: Domid; readonly remotePort: EvtchnPort }; fault: Refusal };
  /** {@link EventChannels.bindUnbound}; `domid` is the domain that may bind the port. */
  bindUnbound: { call: Call & { readonly domid: Domid }; fault: Refusal };
  /** {@link EventChannels.notify}; `port` is the sender's. A refusal is the negative errno that it returns. */
  notify: { call: Call & { readonly port: EvtchnPort }; fault: EventFault };
  /** {@link GrantTable.map}: one call, whatever the number of its references. A refusal maps none of them. */
  map: { call: MapCall; fault: Refusal };
  /** {@link GrantTable.copy}: a batch of `segments`, for which the kernel returns an error. Nothing is copied. */
  copy: { call: Call & { readonly segments: number }; fault: Refusal };
  /**
   * One segment, counted over all batches: it is not copied, and gets `status`, a {@link GrantStatus}. The others are
   * copied.
   */
  copySegment: { call: SegmentCall; fault: { readonly status: number } };
  /**
   * {@link GrantAllocator.allocate}: one call, whatever the `count` of its pages; `domid` is whom they are granted to.
   */
  allocate: { call: Call & { readonly domid: Domid; readonly count: number }; fault: Refusal };
  /** {@link ForeignMemory.map}: the whole call throws. Errors of single `frames` cannot be planned. */
  mapForeign: { call: Call & { readonly domid: Domid; readonly frames: ArrayLike<number> }; fault: Refusal };
  /** {@link XenProvider.connectXenstore}: it rejects, and xenstored hears nothing. */
  connectXenstore: { call: Call; fault: Refusal };
  /** A message to xenstored, counted over all connections; `type` is that of xs_wire.h. */
  xenstoreRequest: { call: Call & { readonly type: number }; fault: RequestFault };
}

/** The name of an operation that faults can happen to. */
export type FaultOperation = keyof FaultKinds;

/** Faults of one operation: at certain calls, or as a function says of each call. */
export type PlannedFault<Op extends FaultOperation> =
  | (FaultOccasion & FaultKinds[Op]['fault'])
  | readonly (FaultOccasion & FaultKinds[Op]['fault'])[]
  | ((call: FaultKinds[Op]['call']) => FaultKinds[Op]['fault'] | undefined);

/** What goes wrong, and when: `{ map: { at: 3, error: 'EAGAIN' } }`. */
export type FaultPlan = { readonly [Op in FaultOperation]?: PlannedFault<Op> | undefined } & {
  /**
   * Features that the provider is to be without, as on an older kernel: `features` says so, and what needs them is
   * refused.
   */
  readonly lacks?: readonly (keyof ProviderFeatures)[] | undefined;
};

/** All of them. The order is that of the counters, which threads share. */
export const FAULT_OPERATIONS: readonly FaultOperation[] = [
  'openEventChannels',
  'openGrantTable',
  'openGrantAllocator',
  'openForeignMemory',
  'bindInterdomain',
  'bindUnbound',
  'notify',
  'map',
  'copy',
  'copySegment',
  'allocate',
  'mapForeign',
  'connectXenstore',
  'xenstoreRequest',
];
