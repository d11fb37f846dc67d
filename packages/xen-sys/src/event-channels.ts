import type { Domid, EvtchnPort } from './numbers.js';
/**
 * Receives the ports that fired. `ports[0..count)` are local port numbers, each at most once; the array is
 * the handle's own and is overwritten by the next call. A delivered port stays masked until it is unmasked.
 */
export type EventListener = (ports: Uint32Array, count: number) => void;

/** A way to sleep that costs one call: what it needs is in arrays that stay, see {@link EventChannels.openSleeper}. */
export interface EventSleeper {
  /** Ports to be unmasked. */
  readonly unmask: Uint32Array;
  /** The ports that fired. */
  readonly ports: Uint32Array;
  /** Descriptors of eventfds that end a sleep too. */
  readonly eventfds: Int32Array;
  /**
   * Unmasks `unmask[0..unmaskCount)`, then sleeps within this call instead of in the event loop, for as long as the loop
   * has nothing to do. Returns how many ports fired, which are then in `ports`; 0 when one of `eventfds[0..eventfdCount)`
   * did, which resets it; -ETIME (-62) when `microseconds`, if not negative, are over; another negative number when it
   * is the event loop's turn: return to it. `first` says that the loop has just had its turn. Promises do not go on
   * meanwhile.
   */
  sleep(unmaskCount: number, eventfdCount: number, first: boolean, microseconds: number): number;
  /**
   * Must follow the last of a series of sleeps, before the event loop has its turn, where it is there. Returns how many ports
   * fired since, which are then in `ports`, or a negative errno.
   */
  end?(): number;
}

/**
 * One handle on the event-channel device: one file descriptor, any number of ports, used by one thread.
 *
 * Set-up operations throw {@link XenSysError}; the others return 0 or more, or a negative errno.
 * The semantics are those of Linux's /dev/xen/evtchn: a bound port fires at most once until it is unmasked.
 */
export interface EventChannels extends AsyncDisposable {
  /** The pollable descriptor, or -1 where the provider has none (the emulator). */
  readonly fd: number;
  /**
   * Binds a new local port to `remotePort` of domain `domid`, which that domain left unbound for us.
   * The new port is pending at once: events may have been lost before.
   * Errors: EINVAL no such port or not ours to bind, ESRCH no such domain, ENOSPC out of ports.
   */
  bindInterdomain(domid: Domid, remotePort: EvtchnPort): EvtchnPort;
  /** Allocates a local port that domain `domid`, which need not exist yet, may bind. Error: ENOSPC out of ports. */
  bindUnbound(domid: Domid): EvtchnPort;
  /** Closes a local port. The remote end becomes unbound again, for the same domain. Error: EINVAL not bound here. */
  unbind(port: EvtchnPort): void;
  /** Sends an event through `port`. 0, or -EINVAL not bound here. To a peer that is not there it is dropped. */
  notify(port: EvtchnPort): number;
  /** Reads the fired ports without waiting into `ports`; returns how many, or a negative errno. */
  pending(ports: Uint32Array): number;
  /** Re-enables `ports[0..count)`. An event sent meanwhile fires at once. 0 or a negative errno. */
  unmask(ports: Uint32Array, count: number): number;
  /**
   * What takes the place of the event loop's own sleep, with one system call where that has half a dozen. Absent where
   * the provider has no descriptors to sleep on.
   */
  openSleeper?(): EventSleeper;
  /** Starts the delivery of fired ports to `listener` on this thread's event loop; undefined stops it. */
  listen(listener: EventListener | undefined): void;
  /** Whether a started delivery keeps the process alive (it does, unless told otherwise). */
  ref(): void;
  /** Lets the process end in spite of a started delivery. */
  unref(): void;
  /** Unbinds every port and closes the descriptor. Harmless when repeated. */
  close(): void;
}
