/**
 * One ring of a data plane: which frontend it belongs to, what serves it, and how much of it is in flight. It has
 * nothing of the stages that its requests pass through: a stage keeps its scratch of a ring in columns of its own, by
 * the ring's index, which is free again only when the ring was detached with nothing pending.
 */
import type { Abi } from '@xenpv/blkif';
import type { BlockQueue } from '@xenpv/blockdev';
import { BackRing } from '@xenpv/ring';
import { type GrantMapping, XEN_PAGE_SIZE } from '@xenpv/xen-sys';
import type { DiskGeometry, OnError } from '../../disk-description.js';
import { RingCounters } from '../accounting/ring-counters.js';
import type { RingJournal } from '../journal/ring-journal.js';
import { Throttle } from '../pace/throttle.js';
import type { RingTracer } from '../trace/ring-tracer.js';
import type { PageMapper } from '../transfer/page-mapper.js';
import type { DataPath, RingListener, RingOptions } from './ring-options.js';

/** What a ring is made of. */
export interface RingParts {
  /** Its number in the data plane. */
  readonly index: number;
  readonly options: RingOptions;
  readonly back: BackRing;
  readonly mapping: GrantMapping;
  /** Our end of its event channel. */
  readonly port: number;
  readonly journal: RingJournal | undefined;
}

export class BlockRing {
  readonly index: number;
  readonly name: string;
  readonly disk: string;
  readonly domid: number;
  readonly abi: Abi;
  readonly port: number;
  back: BackRing;
  readonly mapping: GrantMapping;
  readonly journal: RingJournal | undefined;
  readonly counters: RingCounters;
  readonly listener: RingListener;
  readonly dataPath: DataPath;
  readonly persistentPages: number;
  /** Undefined: it has no budgets. */
  readonly throttle: Throttle | undefined;
  onError: OnError;
  geometry: DiskGeometry;
  queue: BlockQueue | undefined;
  /** Of the image: see BlockFeatures. */
  repeatableFlush = true;
  /** The region of the queue that the reserve of the data memory is, once one of its requests has some of it. */
  reserveRegion: number | undefined;
  /** Writes down its requests, while somebody wants to see them. */
  tracer: RingTracer | undefined;
  /** With data path `map`. */
  mapper: PageMapper | undefined;
  /** Requests taken and not answered. */
  pending = 0;
  /** Rows of the requests that the storage failed and that wait for the disk to be resumed. They are pending. */
  readonly kept: number[] = [];
  /** Requests of its journal that are still to be carried out again. */
  left = 0;
  /** The entries of its journal, until it is begun with them. */
  unbegun: Int32Array | undefined;
  /** They are carried out one after the other: nothing is taken meanwhile. */
  inTurns = false;
  /** The disk is stopped by an error of its storage: nothing is taken. */
  stopped = false;
  /** Its producer index was impossible: nothing is taken or answered any more. */
  broken = false;
  /** Its budgets leave nothing now: nothing is taken for a while. */
  throttled = false;
  /** Pauses that were not ended. */
  #paused: number;
  #whenIdle: (() => void)[] = [];

  constructor({ index, options, back, mapping, port, journal }: RingParts) {
    this.index = index;
    this.name = options.name;
    this.disk = options.disk ?? options.name;
    this.domid = options.domid;
    this.abi = options.abi;
    this.geometry = options.geometry;
    this.counters = options.counters ?? new RingCounters();
    this.listener = options.listener;
    this.#paused = options.paused ? 1 : 0;
    this.dataPath = options.dataPath ?? 'copy';
    this.persistentPages = options.persistentPages ?? 0;
    this.onError = options.onError ?? 'report';
    this.throttle = options.budgets && new Throttle(options.budgets);
    this.back = back;
    this.mapping = mapping;
    this.port = port;
    this.journal = journal;
  }

  /** Neither paused nor stopped nor broken, within its limits, and nothing that must be carried out alone. */
  get serving(): boolean {
    return this.#paused === 0 && !this.stopped && !this.broken && !this.inTurns && !this.throttled;
  }

  get paused(): boolean {
    return this.#paused > 0;
  }

  /** Nothing is in flight: what is pending is kept, and what is left is so until the disk is resumed. */
  get idle(): boolean {
    return this.pending === this.kept.length && (this.left === 0 || this.stopped);
  }

  /** Nothing is taken from now on; resolves when the ring is idle. */
  pause(): Promise<void> {
    this.#paused++;
    if (this.idle) return Promise.resolve();
    return new Promise((resolve) => this.#whenIdle.push(resolve));
  }

  resume(): void {
    this.#paused--;
  }

  /**
   * The frontend gets its ring back, though requests are in flight: nothing is taken, answered or read to its pages any
   * more, and whoever looks at the ring sees one of our own.
   */
  letGo(): void {
    this.broken = true;
    this.left = 0;
    const own = { buffer: new ArrayBuffer(XEN_PAGE_SIZE), byteOffset: 0, byteLength: XEN_PAGE_SIZE };
    this.back = BackRing.attach(own, this.abi.slotBytes);
    if (this.idle) this.tellIdle();
  }

  /** The ring is idle now: tells whoever waits for that. Says whether somebody did. */
  tellIdle(): boolean {
    if (this.#whenIdle.length === 0) return false;
    for (const resolve of this.#whenIdle.splice(0)) resolve();
    return true;
  }
}
