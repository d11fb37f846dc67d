import type { BlockImage } from '@xenpv/blockdev';
import { BackRing } from '@xenpv/ring';
import {
  type EventChannels,
  type EventSleeper,
  type GrantMapping,
  type GrantTable,
  XEN_PAGE_SIZE,
  type XenProvider,
} from '@xenpv/xen-sys';
import { XenBlockError } from '../errors.js';
import { type JournalOptions, RingJournal } from './journal/ring-journal.js';
import { AdaptivePoll } from './pace/busy-poll.js';
import { measurePatience } from './pace/wake-up-cost.js';
import { PlaneState } from './plane-state.js';
import { RequestAnswers } from './requests/answers.js';
import type { DiskGeometry } from './requests/check.js';
import { RequestDispatch } from './requests/dispatch.js';
import { RequestIntake } from './requests/intake.js';
import { BlockRing, type RingOptions } from './ring.js';
import { copyByMapping } from './transfer/copy-by-mapping.js';
import type { CopyFunction } from './transfer/copy-stage.js';
import { PageMapper } from './transfer/page-mapper.js';

const NONE = -1;
/** Passes, and sleeps in between, before other work gets a turn of the event loop. */
const MAX_PASSES = 32;
const MAX_SLEEPS = 256;
const MAX_PORTS = 1024;
/** What an `EventSleeper` says when its time is over. */
const ETIME = -62;
const FOREVER = -1;

export interface DataPlaneOptions {
  /** Memory for the data of requests under way, shared by all rings of this plane; a power of two. 32 MiB. */
  readonly memoryBytes?: number;
  /**
   * How long to look for more work before sleeping, in microseconds; 0, the default, for none. Where it finds
   * something it saves the frontend an event and us a wake-up, for processor time.
   */
  readonly pollMicroseconds?: number | undefined;
}

/** A ring while it is served. */
export interface ServedRing {
  /** Slots. */
  readonly size: number;
  /** Stops taking requests; resolves when all that were taken are answered. */
  pause(): Promise<void>;
  resume(): void;
  /** What requests are checked against from now on. */
  setGeometry(geometry: DiskGeometry): void;
  /** Another image, or none. The ring must be paused. */
  setImage(image: BlockImage | undefined): Promise<void>;
  /** Ends serving: answers what was taken, closes the event channel and unmaps the ring. */
  detach(): Promise<void>;
}

/**
 * Serves rings on one thread: one event-channel handle, one grant handle and one buffer memory for all of them. A
 * pass takes what every awake ring has, copies in what is written with one call, starts it, collects what has ended,
 * copies out what was read with one call, answers, and looks again. Nothing in it allocates.
 */
export class DataPlane implements AsyncDisposable {
  readonly #events: EventChannels;
  readonly #sleeper: EventSleeper | undefined;
  readonly #grants: GrantTable;
  readonly #mapMultiple: boolean;
  readonly #state: PlaneState;
  readonly #intake: RequestIntake;
  readonly #dispatch: RequestDispatch;
  readonly #answers: RequestAnswers;
  readonly #poll: AdaptivePoll;
  readonly #byPort: (BlockRing | undefined)[] = [];
  /** Ports to be unmasked. */
  readonly #unmask: Uint32Array;
  #unmaskCount = 0;
  #eventfdCount = 0;
  /** Rings that sleep until they have several requests, or for a while. */
  #held: BlockRing[] = [];
  #timeIsOver = false;
  /** Milliseconds. */
  readonly #patience: number;
  #heldTimer: NodeJS.Timeout | undefined;
  /** A sleep follows that does not go back to the event loop. */
  #sleepsHere = false;
  /** There was always more to do. */
  #restless = false;
  #serving = false;
  #scheduled = false;
  #closed = false;

  constructor(provider: XenProvider, options: DataPlaneOptions = {}) {
    this.#events = provider.openEventChannels();
    this.#sleeper = this.#events.openSleeper?.();
    this.#unmask = this.#sleeper?.unmask ?? new Uint32Array(MAX_PORTS);
    this.#grants = provider.openGrantTable();
    this.#mapMultiple = provider.features.mapMultiple;
    this.#state = new PlaneState(this.#grants, options.memoryBytes ?? 32 * 1024 * 1024);
    const copy = copyFunction(this.#grants, provider.features.grantCopy, this.#state);
    this.#intake = new RequestIntake(this.#state, copy);
    this.#dispatch = new RequestDispatch(this.#state);
    this.#answers = new RequestAnswers(this.#state, this.#events, copy);
    this.#poll = new AdaptivePoll((options.pollMicroseconds ?? 0) / 1000);
    this.#patience = measurePatience(this.#events);
    this.#events.listen((ports, count) => {
      this.#fired(ports, count);
      this.#serveHere();
    });
  }

  /** Maps a frontend's ring, binds its event channel and begins to serve it. Undoes everything when it cannot. */
  attach(options: RingOptions): ServedRing {
    const mapping = this.#grants.map(options.domid, options.refs, { writable: true });
    let port = NONE;
    try {
      const back = attachRing(mapping, options.abi.slotBytes);
      port = this.#events.bindInterdomain(options.domid, options.eventChannel);
      return this.#serve(options, back, mapping, port);
    } catch (error) {
      if (port !== NONE) this.#events.unbind(port);
      this.#grants.unmap(mapping);
      throw error;
    }
  }

  #serve(options: RingOptions, back: BackRing, mapping: GrantMapping, port: number): ServedRing {
    const { rings } = this.#state;
    const free = rings.indexOf(undefined);
    const index = free === NONE ? rings.length : free;
    const ring = new BlockRing(index, options, back, mapping, port);
    const left = options.journal ? openJournal(ring, options, options.journal) : undefined;
    this.#openQueue(ring, options.image);
    rings[index] = ring;
    this.#byPort[port] = ring;
    if (left) this.#intake.recover(ring, left);
    // An earlier backend may have answered and died before it said so.
    this.#events.notify(port);
    this.#lookAt(ring);
    return {
      size: back.size,
      pause: () => this.#pause(ring),
      resume: () => this.#resume(ring),
      setGeometry: (geometry) => {
        ring.geometry = geometry;
      },
      setImage: (image) => this.#setImage(ring, image),
      detach: () => this.#detach(ring),
    };
  }

  /** Rings served now. */
  get ringCount(): number {
    return this.#state.rings.reduce((count, ring) => count + (ring ? 1 : 0), 0);
  }

  /** Detaches what is left and closes the handles. Harmless when repeated. */
  async close(): Promise<void> {
    if (this.#closed) return;
    await Promise.all(this.#state.rings.map((ring) => ring && this.#detach(ring)));
    this.#closed = true;
    clearTimeout(this.#heldTimer);
    this.#events.close();
    this.#grants.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #openQueue(ring: BlockRing, image: BlockImage | undefined): void {
    ring.queue = image?.createQueue({ depth: ring.back.size, memory: this.#state.memory });
    if (!ring.queue) return;
    if (ring.transfer === 'map') {
      const { domid, queue, persistentPages } = ring;
      ring.mapper = new PageMapper(this.#grants, this.#mapMultiple, domid, queue, persistentPages);
    }
    this.#watchCompletions(ring.queue.completionFd);
    ring.queue.onComplete((tags, results, count) => this.#completed(tags, results, count));
  }

  /** Completions are to end a sleep too. The engines of a thread share one eventfd, which stays when queues go. */
  #watchCompletions(fd: number): void {
    const { eventfds } = this.#sleeper ?? {};
    if (fd < 0 || !eventfds || this.#eventfdCount === eventfds.length) return;
    if (eventfds.subarray(0, this.#eventfdCount).includes(fd)) return;
    eventfds[this.#eventfdCount++] = fd;
  }

  #pause(ring: BlockRing): Promise<void> {
    ring.paused++;
    return ring.idle();
  }

  #resume(ring: BlockRing): void {
    ring.paused--;
    this.#lookAt(ring);
  }

  async #setImage(ring: BlockRing, image: BlockImage | undefined): Promise<void> {
    const old = ring.queue;
    ring.mapper?.close();
    ring.mapper = undefined;
    this.#openQueue(ring, image);
    await old?.close();
  }

  async #detach(ring: BlockRing): Promise<void> {
    const { rings } = this.#state;
    if (rings[ring.index] !== ring) return;
    await this.#pause(ring);
    if (rings[ring.index] !== ring) return;
    rings[ring.index] = undefined;
    this.#byPort[ring.port] = undefined;
    this.#state.awake = this.#state.awake.filter((other) => other !== ring);
    this.#held = this.#held.filter((other) => other !== ring);
    ring.mapper?.close();
    await ring.queue?.close();
    ring.journal?.close();
    this.#events.unbind(ring.port);
    this.#grants.unmap(ring.mapping);
  }

  #fired(ports: Uint32Array, count: number): void {
    for (let i = 0; i < count; i++) {
      const ring = this.#byPort[ports[i]];
      if (!ring) continue;
      ring.counters.event();
      ring.masked = true;
      this.#state.wake(ring);
    }
  }

  #completed(tags: Int32Array, results: Int32Array, count: number): void {
    this.#state.clock.tick();
    for (let i = 0; i < count; i++) this.#dispatch.ended(tags[i], results[i]);
    if (!this.#serving) this.#service();
  }

  #lookAt(ring: BlockRing): void {
    this.#state.wake(ring);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#service();
    });
  }

  #service(): void {
    if (this.#serving || this.#closed) return;
    this.#serving = true;
    // Elsewhere a timer would have to end the sleep; it is worth it only for one that gets no rest.
    this.#state.mayHold = this.#sleepsHere || (this.#restless && this.#sleeper !== undefined);
    this.#wakeHeld();
    this.#state.clock.begin();
    let busy = true;
    for (let pass = 0; busy && pass < MAX_PASSES; pass++) {
      // After a pass that left nothing under way only the rings can have more.
      busy = (this.#pass() && this.#state.table.used > 0) || this.#lookLonger() || !this.#settle();
    }
    this.#serving = false;
    this.#restless = busy;
    // A sleep that follows does it.
    if (!this.#sleepsHere) this.#flushUnmask();
    if (busy) this.#schedule();
    else if (this.#held.length > 0 && !this.#sleepsHere) this.#watchHeld();
  }

  /** The rings that were held off are looked at whenever anything is. */
  #wakeHeld(): void {
    const { awake } = this.#state;
    for (let i = 0; i < awake.length; i++) awake[i].endHold(false);
    for (let i = 0; i < this.#held.length; i++) {
      const ring = this.#held[i];
      ring.endHold(this.#timeIsOver);
      this.#state.wake(ring);
    }
    this.#held.length = 0;
  }

  /**
   * Serves what an event told of, then waits for the next ones without going back to the event loop, where the provider
   * can do that: it saves most of the system calls between two requests. Only ever from the loop's own callback for
   * events, never from an engine's.
   */
  #serveHere(): void {
    this.#sleepsHere = this.#sleeper !== undefined;
    this.#service();
    if (this.#sleeper) this.#sleepHere(this.#sleeper);
    this.#sleepsHere = false;
    this.#flushUnmask();
    if (this.#held.length > 0) this.#schedule();
  }

  #sleepHere(sleeper: EventSleeper): void {
    for (let first = true, left = MAX_SLEEPS; left > 0 && this.#mayStay(); first = false, left--) {
      const time = this.#held.length > 0 ? Math.ceil(this.#patience * 1000) : FOREVER;
      const unmaskCount = this.#unmaskCount;
      this.#unmaskCount = 0;
      const count = sleeper.sleep(unmaskCount, this.#eventfdCount, first, time);
      this.#timeIsOver = count === ETIME;
      if (count < 0 && !this.#timeIsOver) break;
      if (count > 0) this.#fired(sleeper.ports, count);
      else if (count === 0) this.#dispatch.pollEventfd();
      this.#service();
    }
    this.#timeIsOver = false;
  }

  /** The event loop's way to look at held rings when their time is over. */
  #watchHeld(): void {
    clearTimeout(this.#heldTimer);
    this.#heldTimer = setTimeout(() => {
      this.#timeIsOver = this.#held.length > 0;
      if (this.#timeIsOver) this.#service();
      this.#timeIsOver = false;
    }, this.#patience);
  }

  /** Whether nothing that was done needs the event loop. */
  #mayStay(): boolean {
    const { attention } = this.#state;
    this.#state.attention = false;
    return !attention && !this.#scheduled && !this.#closed;
  }

  /** One round over all awake rings. False when there was nothing to do. */
  #pass(): boolean {
    const pulled = this.#intake.pull();
    this.#intake.admit();
    this.#dispatch.start();
    this.#dispatch.poll();
    const answered = this.#answers.answer();
    return pulled > 0 || answered > 0 || this.#state.again.count > 0;
  }

  /** Looks for a while whether the awake rings get requests, or their engines end something. */
  #lookLonger(): boolean {
    const { awake } = this.#state;
    for (let i = 0; i < awake.length; i++) if (awake[i].wanted > 1) return false;
    return awake.length > 0 && this.#poll.run(this.#found);
  }

  readonly #found = (): boolean => {
    const { awake, done } = this.#state;
    for (let i = 0; i < awake.length; i++) if (awake[i].open && awake[i].back.hasRequests()) return true;
    this.#dispatch.poll();
    return done.count > 0;
  };

  /** Puts the rings that have nothing more to do to sleep; false when one of them has something after all. */
  #settle(): boolean {
    const { awake } = this.#state;
    let still = 0;
    for (let i = 0; i < awake.length; i++) {
      const ring = awake[i];
      if (ring.open && ring.back.finalCheck(ring.wanted)) {
        awake[still++] = ring;
        continue;
      }
      ring.awake = false;
      if (ring.wanted > 1) this.#held.push(ring);
      if (!ring.masked) continue;
      ring.masked = false;
      if (this.#unmaskCount === this.#unmask.length) this.#flushUnmask();
      this.#unmask[this.#unmaskCount++] = ring.port;
    }
    awake.length = still;
    return still === 0;
  }

  #flushUnmask(): void {
    if (this.#unmaskCount === 0) return;
    this.#events.unmask(this.#unmask, this.#unmaskCount);
    this.#unmaskCount = 0;
  }
}

/** Grant copy, or what stands in for it where the provider has none. */
function copyFunction(grants: GrantTable, native: boolean, { memory, memoryAddress }: PlaneState): CopyFunction {
  if (native) return (batch) => grants.copy(batch);
  const bytes = new Uint8Array(memory);
  return (batch) => copyByMapping(grants, batch, bytes, memoryAddress);
}

/** Opens a ring's journal; returns its entries of requests that an earlier process took and did not answer. */
function openJournal(ring: BlockRing, { refs, eventChannel }: RingOptions, options: JournalOptions): Int32Array {
  const { back } = ring;
  const journal = RingJournal.open(options, { refs, eventChannel, slots: back.size, slotWords: back.slotWords });
  try {
    const left = journal.recover(back.responsesProduced);
    back.skipTaken(left.length);
    ring.journal = journal;
    return left;
  } catch (error) {
    journal.close();
    throw error;
  }
}

/** A ring of several pages must be one piece of memory. */
function attachRing(mapping: GrantMapping, slotBytes: number): BackRing {
  if (!mapping.contiguous) {
    throw new XenBlockError('ENOTSUP', 'connect', 'the pages of the ring do not follow each other in memory');
  }
  const memory = {
    buffer: mapping.buffer,
    byteOffset: mapping.offsets[0],
    byteLength: mapping.refs.length * XEN_PAGE_SIZE,
  };
  return BackRing.attach(memory, slotBytes);
}
