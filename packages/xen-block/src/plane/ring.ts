import type { Abi } from '@xenpv/blkif';
import type { BlockImage, BlockQueue } from '@xenpv/blockdev';
import type { BackRing } from '@xenpv/ring';
import type { GrantMapping } from '@xenpv/xen-sys';
import type { XenBlockError } from '../errors.js';
import { RingCounters } from './counters.js';
import type { JournalOptions, RingJournal } from './journal/ring-journal.js';
import { HoldOff } from './pace/batching.js';
import { BAD_REQUESTS } from './requests/bad-request.js';
import type { DiskGeometry } from './requests/check.js';
import type { PageMapper } from './transfer/page-mapper.js';

/** What a ring tells the device that it belongs to. */
export interface RingListener {
  /** The frontend sent a request that was refused (a `BadRequest`); `count` of that reason since it was last told. */
  badRequest(reason: number, count: number): void;
  /** The storage has no such operation after all: the feature should be taken back. */
  unsupported(operation: number): void;
  /** Nothing is served any more: the frontend's producer index is impossible, or the data plane ended. */
  broken(error: XenBlockError): void;
}

/** `copy` through our own memory, by the hypervisor; or `map`: the storage works on the guest's own pages. */
export type Transfer = 'copy' | 'map';

/** What a data plane needs to serve one ring. */
export interface RingOptions {
  /** For messages: `qdisk-5-51712/0`. */
  readonly name: string;
  readonly domid: number;
  /** Grant references of the ring's pages, in order. */
  readonly refs: Uint32Array;
  /** The frontend's event channel. */
  readonly eventChannel: number;
  readonly abi: Abi;
  readonly geometry: DiskGeometry;
  /** Absent for an empty drive. */
  readonly image: BlockImage | undefined;
  /** How data gets between the guest's pages and the storage; `copy` when not given. */
  readonly transfer?: Transfer;
  /** With `map`: guest pages that stay mapped, because the frontend granted them for good. 0 when not given. */
  readonly persistentPages?: number;
  /** Keeps the requests under way for another process; none when not given. */
  readonly journal?: JournalOptions;
  readonly counters?: RingCounters;
  readonly listener: RingListener;
}

const NONE = -1;
const REPORT_INTERVAL_MS = 1000;

/** A ring as its data plane sees it. */
export class BlockRing {
  readonly index: number;
  readonly name: string;
  readonly domid: number;
  readonly abi: Abi;
  readonly port: number;
  readonly back: BackRing;
  readonly mapping: GrantMapping;
  readonly counters: RingCounters;
  readonly listener: RingListener;
  readonly transfer: Transfer;
  readonly persistentPages: number;
  geometry: DiskGeometry;
  queue: BlockQueue | undefined;
  /** With transfer by mapping. */
  mapper: PageMapper | undefined;
  readonly holdOff: HoldOff;
  journal: RingJournal | undefined;
  /** Requests that make it worth while to look at the ring: more than one while it is held off. */
  wanted = 1;
  /** Requests taken and not answered. */
  pending = 0;
  /** The row of a barrier under way: nothing is taken behind it. */
  barrier = NONE;
  /** Whether that barrier waits for the requests before it. */
  barrierParked = false;
  /** In the list of rings to be looked at. */
  awake = false;
  /** Its event was delivered and not unmasked since. */
  masked = false;
  /** Answers that were put and not pushed, and the bytes that they moved. */
  answered = 0;
  answeredBytes = 0;
  /** Operations were staged and not submitted. */
  staged = false;
  paused = 0;
  broken = false;
  #whenIdle: (() => void)[] = [];
  readonly #badCounts = new Uint32Array(BAD_REQUESTS);
  readonly #badReported = new Float64Array(BAD_REQUESTS).fill(-REPORT_INTERVAL_MS);

  constructor(index: number, options: RingOptions, back: BackRing, mapping: GrantMapping, port: number) {
    this.index = index;
    this.name = options.name;
    this.domid = options.domid;
    this.abi = options.abi;
    this.geometry = options.geometry;
    this.counters = options.counters ?? new RingCounters();
    this.listener = options.listener;
    this.transfer = options.transfer ?? 'copy';
    this.persistentPages = options.persistentPages ?? 0;
    this.back = back;
    this.holdOff = new HoldOff(back.size);
    this.mapping = mapping;
    this.port = port;
  }

  /** Whether requests may be taken now. */
  get open(): boolean {
    return this.paused === 0 && this.barrier === NONE && !this.broken;
  }

  /** Ends waiting for several requests; `late`: because the time for it is over. */
  endHold(late: boolean): void {
    if (this.wanted === 1) return;
    this.holdOff.woken(this.back.waiting, late);
    this.wanted = 1;
  }

  /** Resolves when nothing is pending. */
  idle(): Promise<void> {
    if (this.pending === 0) return Promise.resolve();
    return new Promise((resolve) => this.#whenIdle.push(resolve));
  }

  /** Nothing is pending now. Says whether somebody waited for that. */
  tellIdle(): boolean {
    if (this.#whenIdle.length === 0) return false;
    for (const resolve of this.#whenIdle.splice(0)) resolve();
    return true;
  }

  /** Tells the listener of a refused request, each reason at most once a second: a guest can send millions. */
  reportBad(reason: number, now: number): void {
    this.#badCounts[reason]++;
    if (now - this.#badReported[reason] < REPORT_INTERVAL_MS) return;
    this.#badReported[reason] = now;
    this.listener.badRequest(reason, this.#badCounts[reason]);
    this.#badCounts[reason] = 0;
  }
}
