/**
 * The data plane: rings, served on one thread with one event-channel handle, one grant handle and one data memory for
 * all of them. This file is its public class: rings come (mapped, bound, their journal opened, their image's queue
 * made), change, and go. What is done for their requests is in pass.ts, and what is done in between in rest.ts.
 *
 * What must hold: a ring goes only when nothing of it is pending, and until then its memory stays mapped; an attach
 * that fails leaves nothing of the frontend's mapped or bound.
 */
import type { BlockImage } from '@xenpv/blockdev';
import { BackRing } from '@xenpv/ring';
import {
  type EventChannels,
  type GrantMapping,
  type GrantTable,
  XEN_PAGE_SIZE,
  type XenProvider,
} from '@xenpv/xen-sys';
import type { DiskGeometry, OnError } from '../disk-description.js';
import { XenBlockError } from '../errors.js';
import { within } from '../within.js';
import { Glances } from './fairness/glances.js';
import { MemoryShares } from './fairness/memory-shares.js';
import { Sharers } from './fairness/sharers.js';
import { Turns } from './fairness/turns.js';
import { Waiting } from './fairness/waiting.js';
import { adoptRing } from './journal/adopt-ring.js';
import { Clock } from './pace/clock.js';
import { Holds } from './pace/holds.js';
import { ThrottledRings } from './pace/throttled-rings.js';
import { PassLoop } from './pass.js';
import { RequestEnds } from './requests/ends.js';
import { StorageFailures } from './requests/failures.js';
import { PassLists } from './requests/lists.js';
import { Notices } from './requests/notices.js';
import { RequestSegments } from './requests/segments.js';
import { RequestTable } from './requests/table.js';
import { observe } from './requests/trace.js';
import { Rest } from './rest.js';
import { Barriers } from './rings/barriers.js';
import { BlockRing, type RingParts } from './rings/ring.js';
import type { RingOptions } from './rings/ring-options.js';
import { RingSet } from './rings/ring-set.js';
import { RingTracer } from './trace/ring-tracer.js';
import { TraceBuffer } from './trace/trace-buffer.js';
import { copyFunction } from './transfer/copy-function.js';
import { DataMemory } from './transfer/data-memory.js';
import { PageMapper } from './transfer/page-mapper.js';
import { Watchdog } from './watchdog.js';

const NONE = -1;
export const LET_GO_MS = 8000;
const MEMORY_BYTES = 32 * 1024 * 1024;
/** Rows of the request table at first. */
const ROWS = 256;

/** What a data plane has at its disposal. */
export interface DataPlaneOptions {
  /** Memory for the data of requests in flight, shared by all rings of this plane; a power of two. 32 MiB. */
  readonly memoryBytes?: number | undefined;
  /**
   * How long to look for more work before sleeping, in microseconds; 0, the default, for not at all. Where it finds
   * some it saves the frontend an event and us a wake-up, for processor time.
   */
  readonly pollMicroseconds?: number | undefined;
  /**
   * How long a ring whose frontend is gone waits for the storage, in milliseconds; 8000 when not given, which is less than
   * a toolstack waits. Then it is let go of, see {@link DetachedRing}.
   */
  readonly letGoMs?: number | undefined;
}

/**
 * What a ring leaves when it is detached. Where the storage kept requests for too long, the frontend has got all back
 * that it had given: the ring, its event channel, but for the pages in which the storage itself works (data path `map`).
 * Nobody gets an answer to them any more, nor what they read.
 */
export interface DetachedRing {
  /** Requests that the storage has still. */
  readonly inFlight: number;
  /** Resolves when it has ended them, and their memory is given back. */
  readonly ended: Promise<void>;
}

/** What becomes of kept requests when their ring is detached. */
export type KeptRequests = 'fail' | 'leave';

/** A ring while it is served. */
export interface ServedRing {
  /** Slots. */
  readonly size: number;
  /** Requests of an earlier process that are carried out again from the first `resume` on. */
  readonly recovered: number;
  /** Stops taking requests; resolves when all taken requests are answered. */
  pause(): Promise<void>;
  /** Takes requests again after `pause`. */
  resume(): void;
  /** What requests are checked against once it resolves. */
  setGeometry(geometry: DiskGeometry): Promise<void>;
  /** Another image, or none. The ring must be paused. One that rejects has still the image that it had. */
  setImage(image: BlockImage | undefined): Promise<void>;
  /** Takes no more: another ring of the disk has met an error of the storage. Until {@link restart}. */
  stop(): void;
  /** The disk is resumed: requests that were kept are done again, and more is taken. */
  restart(): Promise<void>;
  /** What is done when the storage fails a request, once it resolves. */
  setOnError(policy: OnError): Promise<void>;
  /** Its requests are written to `trace` from now on, the memory of a `TraceBuffer`; or to none. Resolves when that is so. */
  setTrace(trace: SharedArrayBuffer | undefined): Promise<void>;
  /**
   * Ends serving: answers the taken requests, closes the event channel and unmaps the ring. Requests that are kept by an
   * error of the storage are failed, or left to the next process by the ring's journal; without a journal they fail. With
   * `fail`, storage that does not answer is waited for no longer than `letGoMs`.
   */
  detach(kept: KeptRequests): Promise<DetachedRing>;
}

/** Serves rings on this thread. */
export class DataPlane implements AsyncDisposable {
  readonly #events: EventChannels;
  readonly #grants: GrantTable;
  readonly #mapMultiple: boolean;
  readonly #memory: DataMemory;
  readonly #sharers = new Sharers();
  readonly #failures: StorageFailures;
  readonly #rings = new RingSet();
  readonly #table: RequestTable;
  readonly #rest: Rest;
  readonly #loop: PassLoop;
  readonly #watchdog: Watchdog;
  readonly #letGoMs: number;
  /** Rings that were let go of, whose requests the storage has still. */
  readonly #letGo = new Set<BlockRing>();
  #closed = false;

  constructor(provider: XenProvider, options: DataPlaneOptions = {}) {
    const { memoryBytes = MEMORY_BYTES, pollMicroseconds = 0, letGoMs = LET_GO_MS } = options;
    this.#letGoMs = letGoMs;
    const events = provider.openEventChannels();
    const grants = openOrClose(events, () => provider.openGrantTable());
    const rings = this.#rings;
    const memory = new DataMemory(grants, memoryBytes);
    const copy = copyFunction(grants, provider, memory);
    const table = new RequestTable(rings, ROWS);
    const segments = new RequestSegments(table, memory);
    const [lists, clock, notices, barriers, holds] = [
      new PassLists(),
      new Clock(),
      new Notices(),
      new Barriers(),
      new Holds(),
    ];
    const throttled = new ThrottledRings<BlockRing>((ring) => rings.wake(ring));
    const sharers = this.#sharers;
    const shares = new MemoryShares(memory, sharers);
    const waiting = new Waiting(sharers);
    const turns = new Turns(sharers);
    const glances = new Glances(rings, barriers, holds);
    const ends = new RequestEnds({ rings, table, lists, clock, notices });
    const failures = new StorageFailures({ table, lists, shares, barriers, ends, notices, clock });
    this.#events = events;
    this.#table = table;
    this.#failures = failures;
    this.#grants = grants;
    this.#mapMultiple = provider.features.mapMultiple;
    this.#memory = memory;
    this.#rest = new Rest({ events, rings, barriers, holds, throttled, pollMicroseconds });
    this.#loop = new PassLoop(
      {
        events,
        copy,
        rings,
        table,
        lists,
        memory,
        sharers,
        shares,
        waiting,
        turns,
        glances,
        segments,
        barriers,
        ends,
        failures,
        notices,
        clock,
        holds,
        throttled,
      },
      this.#rest,
    );
    this.#watchdog = new Watchdog({ rings, lists, table, shares, waiting, barriers, loop: this.#loop });
    events.listen((ports, count) => this.#loop.fired(ports, count));
  }

  /** Rings served now. */
  get ringCount(): number {
    return this.#rings.count;
  }

  /** Maps a frontend's ring, binds its event channel and begins to serve it. Undoes everything when it cannot. */
  attach(options: RingOptions): ServedRing {
    const mapping = this.#grants.map(options.domid, options.refs, { writable: true });
    let port = NONE;
    try {
      const back = attachRing(mapping, options.abi.slotBytes);
      port = this.#events.bindInterdomain(options.domid, options.eventChannel);
      return this.#serve({ index: this.#rings.freeIndex, options, back, mapping, port });
    } catch (error) {
      if (port !== NONE) this.#events.unbind(port);
      this.#grants.unmap(mapping);
      throw error;
    }
  }

  #serve(parts: Omit<RingParts, 'journal'>): ServedRing {
    const { back } = parts;
    const options = this.#withRoom(parts.options);
    const { journal, entries, dropped } = adoptRing(back, options, options.journal);
    const ring = new BlockRing({ ...parts, options, journal });
    try {
      this.#openQueue(ring, options.image);
    } catch (error) {
      journal?.leave();
      throw error;
    }
    ring.unbegun = entries;
    ring.left = entries.length;
    this.#rings.add(ring);
    this.#loop.open(ring);
    if (dropped !== undefined) options.listener.journalDropped(dropped);
    if (!options.paused) this.#recover(ring);
    // An earlier backend may have answered and died before it said so.
    this.#events.notify(ring.port);
    this.#loop.wake(ring);
    this.#watchdog.start();
    return {
      size: back.size,
      recovered: entries.length,
      pause: () => ring.pause(),
      resume: () => {
        this.#recover(ring);
        ring.resume();
        this.#failures.restart(ring);
        this.#loop.wake(ring);
      },
      setGeometry: async (geometry) => {
        ring.geometry = geometry;
      },
      setImage: (image) => this.#setImage(ring, image),
      stop: () => {
        ring.stopped = true;
      },
      restart: async () => {
        if (!this.#rings.has(ring)) return;
        ring.stopped = false;
        this.#failures.restart(ring);
        this.#loop.wake(ring);
      },
      setOnError: async (policy) => {
        ring.onError = policy;
      },
      setTrace: async (trace) => {
        if (this.#rings.has(ring)) this.#setTrace(ring, trace);
      },
      detach: (kept) => this.#detach(ring, kept),
    };
  }

  #setTrace(ring: BlockRing, trace: SharedArrayBuffer | undefined): void {
    ring.tracer = trace && new RingTracer(new TraceBuffer(trace));
    this.#table.traced = this.#rings.all.some((each) => each?.tracer !== undefined);
    observe(this.#table);
  }

  #recover(ring: BlockRing): void {
    const { unbegun, journal } = ring;
    ring.unbegun = undefined;
    if (!unbegun || !journal) return;
    ring.counters.recovered(unbegun.length);
    this.#loop.recover(ring, journal, unbegun);
  }

  /** An earlier process may have promised requests that are too large for our memory: the storage gets their pages. */
  #withRoom(options: RingOptions): RingOptions {
    if (this.#memory.hasRoomFor(options.geometry.maxIndirectSegments)) return options;
    return { ...options, dataPath: 'map' };
  }

  /** Detaches all rings and closes the handles. Harmless when repeated. */
  async close(): Promise<void> {
    if (this.#closed) return;
    await Promise.all(this.#rings.all.map((ring) => ring && this.#detach(ring, 'leave')));
    this.#closed = true;
    this.#watchdog.stop();
    this.#loop.close();
    this.#events.close();
    // Pages in which hanging storage works stay mapped until the process ends.
    if (this.#letGo.size === 0) this.#grants.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** When it throws the ring is as it was. */
  #openQueue(ring: BlockRing, image: BlockImage | undefined): void {
    const queue = image?.createQueue({ depth: ring.back.size, memory: this.#memory.buffer });
    ring.mapper?.close();
    ring.mapper = undefined;
    ring.queue = queue;
    ring.reserveRegion = undefined;
    ring.repeatableFlush = image?.features.repeatableFlush ?? true;
    if (!queue) return;
    if (ring.dataPath === 'map') {
      const { domid, persistentPages } = ring;
      const mapMultiple = this.#mapMultiple;
      ring.mapper = new PageMapper({ grants: this.#grants, mapMultiple, domid, queue, persistentPages });
    }
    this.#rest.watchCompletions(queue.completionFd);
    queue.onComplete((tags, results, count) => this.#loop.completed(tags, results, count));
  }

  async #setImage(ring: BlockRing, image: BlockImage | undefined): Promise<void> {
    if (!this.#rings.has(ring) || this.#letGo.has(ring)) return;
    const old = ring.queue;
    this.#openQueue(ring, image);
    await old?.close();
  }

  async #detach(ring: BlockRing, kept: KeptRequests): Promise<DetachedRing> {
    if (!this.#rings.has(ring) || this.#letGo.has(ring)) return NOTHING_LEFT;
    if (ring.unbegun) {
      ring.unbegun = undefined;
      ring.left = 0;
    }
    if (kept === 'fail' || ring.journal === undefined) {
      this.#failures.giveUp(ring);
      this.#loop.wake(ring);
    }
    // Storage that is away does not keep what a domain that is gone has left.
    if (kept === 'fail') ring.queue?.giveUp?.();
    const idle = ring.pause();
    const inTime = kept === 'leave' || (await within(idle, this.#letGoMs));
    await (inTime ? idle : undefined);
    if (!this.#rings.has(ring) || this.#letGo.has(ring)) return NOTHING_LEFT;
    if (!inTime) return this.#letGoOf(ring, idle);
    this.#failures.leave(ring);
    this.#loop.forget(ring);
    this.#remove(ring);
    ring.mapper?.close();
    await ring.queue?.close();
    if (kept === 'leave') ring.journal?.leave();
    else ring.journal?.close();
    this.#events.unbind(ring.port);
    this.#grants.unmap(ring.mapping);
    return NOTHING_LEFT;
  }

  #remove(ring: BlockRing): void {
    this.#rings.remove(ring);
    if (ring.tracer) this.#setTrace(ring, undefined);
    const { number } = this.#sharers.guestOf(ring);
    if (this.#sharers.close(ring)) this.#memory.forget(number);
    if (this.#rings.count === 0) this.#watchdog.stop();
  }

  /** The storage does not answer, and the frontend is gone: it gets back what the storage does not work in. */
  #letGoOf(ring: BlockRing, idle: Promise<void>): DetachedRing {
    const inFlight = ring.pending;
    this.#letGo.add(ring);
    this.#loop.forget(ring);
    ring.letGo();
    ring.journal?.close();
    this.#events.unbind(ring.port);
    this.#grants.unmap(ring.mapping);
    return { inFlight, ended: idle.then(() => this.#endLetGo(ring)) };
  }

  async #endLetGo(ring: BlockRing): Promise<void> {
    this.#remove(ring);
    if (!this.#closed) ring.mapper?.close();
    this.#letGo.delete(ring);
    await ring.queue?.close();
  }
}

const NOTHING_LEFT: DetachedRing = { inFlight: 0, ended: Promise.resolve() };

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

/** Opens the second of two handles; the first does not stay open alone. */
function openOrClose<T>(first: { close(): void }, open: () => T): T {
  try {
    return open();
  } catch (error) {
    first.close();
    throw error;
  }
}
