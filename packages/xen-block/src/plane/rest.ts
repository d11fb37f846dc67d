/**
 * What a data plane does when its rings have no more requests: it looks a little longer, sends rings to sleep, holds
 * those that are better served several requests at a time, unmasks their event channels, and sleeps.
 *
 * What must hold: a ring goes to sleep only after RING_FINAL_CHECK_FOR_REQUESTS, so that its frontend notifies us of
 * the next request, or while nothing may be taken from it, and then the end of that state wakes it; the port of a
 * ring that sleeps is unmasked before the thread does; a ring that is held is looked at when its time is over.
 * What never happens: a sleep in place, which keeps the event loop waiting, while something needs the event loop.
 */
import { openRingSleeper } from '@xenpv/blockdev';
import { Errno, type EventChannels, type EventSleeper } from '@xenpv/xen-sys';
import { BusyPoll } from './pace/busy-poll.js';
import type { Holds } from './pace/holds.js';
import type { ThrottledRings } from './pace/throttled-rings.js';
import { measureHoldTime } from './pace/wake-up-cost.js';
import type { Barriers } from './rings/barriers.js';
import type { BlockRing } from './rings/ring.js';
import type { RingSet } from './rings/ring-set.js';

const MAX_PORTS = 1024;
const FOREVER = -1;

/** What ended a sleep in place. */
export const Woken = { byEvent: 0, byCompletion: 1, byTime: 2, forEventLoop: 3 } as const;
export type Woken = (typeof Woken)[keyof typeof Woken];

export interface RestOptions {
  readonly events: EventChannels;
  readonly rings: RingSet;
  readonly barriers: Barriers;
  readonly holds: Holds;
  readonly throttled: Pick<ThrottledRings<BlockRing>, 'untilNext'>;
  /** How long to look for more work before sleeping; 0 for not at all. */
  readonly pollMicroseconds: number;
}

export class Rest {
  readonly #events: EventChannels;
  #sleeper: EventSleeper | undefined;
  readonly #rings: RingSet;
  readonly #barriers: Barriers;
  readonly #holds: Holds;
  readonly #throttled: RestOptions['throttled'];
  readonly #busyPoll: BusyPoll;
  /** Milliseconds that a ring may be held. */
  readonly #holdTime: number;
  readonly #byPort: (BlockRing | undefined)[] = [];
  /** By ring index: its event was delivered and its port is not unmasked since. */
  readonly #masked: boolean[] = [];
  /** Ports to be unmasked. */
  #unmask: Uint32Array;
  #unmaskCount = 0;
  #eventfdCount = 0;
  /** Of the ring in which the thread sleeps, which needs none. */
  #ringFd = -1;
  #held: BlockRing[] = [];
  #holdTimer: NodeJS.Timeout | undefined;
  /** The time of the held rings is over. */
  #timeIsOver = false;
  #onHoldExpired: () => void = () => {};
  /** A sleep follows that does not go back to the event loop. */
  #sleepsInPlace = false;
  /** No such sleep since the event loop had its turn. */
  #firstSleep = false;
  /** The last run over the rings was cut short: there was always more to do. */
  #ranOutOfPasses = false;

  constructor({ events, rings, barriers, holds, throttled, pollMicroseconds }: RestOptions) {
    this.#events = events;
    this.#sleeper = events.openSleeper?.();
    this.#unmask = this.#sleeper?.unmask ?? new Uint32Array(MAX_PORTS);
    this.#rings = rings;
    this.#barriers = barriers;
    this.#holds = holds;
    this.#throttled = throttled;
    this.#busyPoll = new BusyPoll(pollMicroseconds / 1000);
    this.#holdTime = measureHoldTime(events);
  }

  /** What to do when the time of held rings is over and the thread sleeps in the event loop. */
  onHoldExpired(listener: () => void): void {
    this.#onHoldExpired = listener;
  }

  open(ring: BlockRing): void {
    this.#masked[ring.index] = false;
    this.#byPort[ring.port] = ring;
  }

  forget(ring: BlockRing): void {
    this.#byPort[ring.port] = undefined;
    this.#masked[ring.index] = false;
    this.#held = this.#held.filter((other) => other !== ring);
  }

  close(): void {
    clearTimeout(this.#holdTimer);
  }

  /** Completions are to end a sleep too. The engines of a thread share one eventfd, which stays when queues go. */
  watchCompletions(fd: number): void {
    if (this.#sleeper === undefined || fd < 0 || fd === this.#ringFd) return;
    const { eventfds } = this.#sleeper;
    if (this.#eventfdCount === eventfds.length || eventfds.subarray(0, this.#eventfdCount).includes(fd)) return;
    if (this.#ringFd < 0 && this.#sleepInRing(this.#sleeper, fd)) return;
    eventfds[this.#eventfdCount++] = fd;
  }

  /** The engine that tells of completions by this eventfd may have a ring in which the thread can sleep: one call does all then. */
  #sleepInRing(sleeper: EventSleeper, fd: number): boolean {
    const inRing = openRingSleeper(this.#events.fd, fd);
    if (inRing === undefined) return false;
    this.#flushUnmask();
    inRing.eventfds.set(sleeper.eventfds.subarray(0, this.#eventfdCount));
    this.#sleeper = inRing;
    this.#unmask = inRing.unmask;
    this.#ringFd = fd;
    return true;
  }

  /** Events came: their ports are masked, and their rings awake. */
  fired(ports: Uint32Array, count: number): void {
    for (let i = 0; i < count; i++) {
      const ring = this.#byPort[ports[i]];
      if (!ring) continue;
      ring.counters.event();
      this.#masked[ring.index] = true;
      this.#rings.wake(ring);
    }
  }

  /** A ring may have an event that never came here, whose port is masked then: it is unmasked when the ring sleeps. */
  unmaskLater(ring: BlockRing): void {
    this.#masked[ring.index] = true;
  }

  /** Before a run over the rings: those that are held are looked at whenever any ring is. */
  begin(): void {
    // In the event loop a timer must end the hold; that pays only for a plane that never runs out of work.
    this.#holds.allowed = this.#sleepsInPlace || (this.#ranOutOfPasses && this.#sleeper !== undefined);
    const { awake } = this.#rings;
    for (let i = 0; i < awake.length; i++) this.#holds.end(awake[i]);
    for (let i = 0; i < this.#held.length; i++) {
      const ring = this.#held[i];
      if (this.#timeIsOver) this.#holds.expire(ring);
      else this.#holds.end(ring);
      this.#rings.wake(ring);
    }
    this.#held.length = 0;
  }

  /** After a run that served all rings. */
  endSettled(): void {
    this.#ranOutOfPasses = false;
    if (this.#sleepsInPlace) return;
    this.#flushUnmask();
    if (this.#held.length > 0) this.#armHoldTimer();
  }

  /** After a run that was cut short: another follows when the event loop had its turn. */
  endUnfinished(): void {
    this.#ranOutOfPasses = true;
    if (!this.#sleepsInPlace) this.#flushUnmask();
  }

  /** Looks for a while whether there is more to do, where that pays; says whether there is. */
  poll(found: () => boolean): boolean {
    const { awake } = this.#rings;
    for (let i = 0; i < awake.length; i++) if (this.#holds.holds(awake[i])) return false;
    return awake.length > 0 && this.#busyPoll.run(found);
  }

  /** Sends the rings to sleep that have no more requests; false when one of them has some after all. */
  settle(): boolean {
    return this.#rings.sleepUnless(this.#staysAwake);
  }

  readonly #staysAwake = (ring: BlockRing): boolean => {
    if (this.#barriers.mayTake(ring) && ring.back.finalCheck(this.#holds.wakeAfter(ring))) return true;
    if (this.#holds.holds(ring)) this.#held.push(ring);
    if (this.#masked[ring.index]) this.#noteUnmask(ring);
    return false;
  };

  #noteUnmask(ring: BlockRing): void {
    this.#masked[ring.index] = false;
    if (this.#unmaskCount === this.#unmask.length) this.#flushUnmask();
    this.#unmask[this.#unmaskCount++] = ring.port;
  }

  #flushUnmask(): void {
    if (this.#unmaskCount === 0) return;
    this.#events.unmask(this.#unmask, this.#unmaskCount);
    this.#unmaskCount = 0;
  }

  /** The event loop's way to look at held rings when their time is over. */
  #armHoldTimer(): void {
    clearTimeout(this.#holdTimer);
    this.#holdTimer = setTimeout(this.#holdExpired, this.#holdTime);
  }

  readonly #holdExpired = (): void => {
    this.#timeIsOver = this.#held.length > 0;
    if (this.#timeIsOver) this.#onHoldExpired();
    this.#timeIsOver = false;
  };

  /** Sleeps in place follow, where the provider can do that. Only ever from the event loop's own callback for events. */
  beginSleeps(): void {
    this.#sleepsInPlace = this.#sleeper !== undefined;
    this.#firstSleep = true;
  }

  /** Sleeps until something is to be done, in place: it saves most of the system calls between two requests. */
  sleep(): Woken {
    if (!this.#sleeper) return Woken.forEventLoop;
    const holdTime = this.#held.length > 0 ? this.#holdTime : Infinity;
    const time = Math.min(holdTime, this.#throttled.untilNext);
    const microseconds = time === Infinity ? FOREVER : Math.ceil(time * 1000);
    const unmaskCount = this.#unmaskCount;
    this.#unmaskCount = 0;
    const count = this.#sleeper.sleep(unmaskCount, this.#eventfdCount, this.#firstSleep, microseconds);
    this.#firstSleep = false;
    this.#timeIsOver = count === Errno.ETIME && time === holdTime;
    if (count === Errno.ETIME) return Woken.byTime;
    if (count < 0) return Woken.forEventLoop;
    if (count === 0) return Woken.byCompletion;
    this.fired(this.#sleeper.ports, count);
    return Woken.byEvent;
  }

  /** The event loop has its turn. True when rings are held, or awake, which must then be looked at soon. */
  endSleeps(): boolean {
    this.#timeIsOver = false;
    this.#sleepsInPlace = false;
    const count = this.#sleeper?.end?.() ?? 0;
    if (count > 0) this.fired((this.#sleeper as EventSleeper).ports, count);
    this.#flushUnmask();
    return this.#held.length > 0 || count > 0;
  }
}
