import {
  BlkifOp,
  BlkifStatus,
  encodeResponse,
  indirectGref,
  requestIdHigh,
  requestIdLow,
  requestOperation,
  SECTOR_SIZE,
  SEGMENT_WORDS,
  SEGMENTS_PER_INDIRECT_PAGE,
  segmentFirst,
  segmentGref,
  segmentLast,
} from '@xenpv/blkif';
import { allocateMemory, type BlockImage, BlockOp, IOV_WORDS } from '@xenpv/blockdev';
import { BackRing } from '@xenpv/ring';
import {
  type EventChannels,
  type GrantMapping,
  type GrantTable,
  XEN_PAGE_SIZE,
  type XenProvider,
} from '@xenpv/xen-sys';
import { BadRequest, badRequestStatus } from './bad-request.js';
import { BlockRing, type RingOptions } from './block-ring.js';
import { copyByMapping } from './copy-by-mapping.js';
import { type CopyFunction, CopyStage } from './copy-stage.js';
import { AccountingClass } from './counters.js';
import { XenBlockError } from './errors.js';
import { PageMapper } from './page-mapper.js';
import { PagePool } from './page-pool.js';
import { MAX_INDIRECT_SEGMENTS } from './published-keys.js';
import { checkHeader, checkRange, type DiskGeometry, isSecureDiscard } from './request-check.js';
import { Phase, RequestTable, ROW_WORDS, RowList } from './request-table.js';

const NONE = -1;
const EAGAIN = -11;
const EOPNOTSUPP = -95;
/** Bytes of a scatter list entry that one merged engine call may have, and its bytes. */
const MAX_MERGED_ROWS = 64;
const MAX_MERGED_SEGMENTS = 256;
const MAX_MERGED_BYTES = 1024 * 1024;
const COPY_BATCH = 2048;
/** How long the event loop may be held before other work gets a turn. */
const TURN_MS = 4;

export interface DataPlaneOptions {
  /** Memory for the data of requests under way, shared by all rings of this plane; a power of two. 32 MiB. */
  readonly memoryBytes?: number;
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
  readonly #grants: GrantTable;
  readonly #memory: ArrayBufferLike;
  readonly #memoryWords: Int32Array;
  readonly #memoryAddress: number;
  readonly #pool: PagePool;
  readonly #table = new RequestTable(256);
  readonly #rings: (BlockRing | undefined)[] = [];
  readonly #byPort: (BlockRing | undefined)[] = [];
  #awake: BlockRing[] = [];
  /** Rings with staged operations, and rings with answers to push, of this pass. */
  readonly #staged: BlockRing[] = [];
  readonly #touched: BlockRing[] = [];
  /** What still waits for memory, and after it what was taken in this pass. */
  readonly #fresh = new RowList();
  /** Admitted in this pass. */
  readonly #ready = new RowList();
  /** To be started once more: the write after a flush, the parts of a merged call that failed. */
  #again = new RowList();
  #spare = new RowList();
  readonly #done = new RowList();
  readonly #indirectIn: CopyStage;
  readonly #copyIn: CopyStage;
  readonly #copyOut: CopyStage;
  readonly #iov = new Float64Array(MAX_INDIRECT_SEGMENTS * IOV_WORDS);
  readonly #response = new Int32Array(8);
  #ports = new Uint32Array(64);
  #serving = false;
  #scheduled = false;
  #closed = false;
  #now = 0;

  constructor(provider: XenProvider, options: DataPlaneOptions = {}) {
    const bytes = options.memoryBytes ?? 32 * 1024 * 1024;
    this.#pool = new PagePool(bytes);
    this.#memory = allocateMemory(bytes);
    this.#memoryWords = new Int32Array(this.#memory);
    this.#events = provider.openEventChannels();
    this.#grants = provider.openGrantTable();
    this.#memoryAddress = this.#grants.register(this.#memory);
    const copyFailed = (row: number) => this.#grantFailed(row);
    const copy = copyFunction(this.#grants, provider.features.grantCopy, this.#memory, this.#memoryAddress);
    this.#indirectIn = new CopyStage(copy, COPY_BATCH, copyFailed);
    this.#copyIn = new CopyStage(copy, COPY_BATCH, copyFailed);
    this.#copyOut = new CopyStage(copy, COPY_BATCH, copyFailed);
    this.#events.listen((ports, count) => this.#fired(ports, count));
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
    const free = this.#rings.indexOf(undefined);
    const index = free === NONE ? this.#rings.length : free;
    const ring = new BlockRing(index, options, back, mapping, port);
    this.#openQueue(ring, options.image);
    this.#rings[index] = ring;
    this.#byPort[port] = ring;
    // An earlier backend may have answered and died before it said so.
    this.#events.notify(port);
    this.#wake(ring);
    this.#schedule();
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
    return this.#rings.reduce((count, ring) => count + (ring ? 1 : 0), 0);
  }

  /** Closes the handles. All rings must have been detached. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await Promise.all(this.#rings.map((ring) => ring && this.#detach(ring)));
    this.#events.close();
    this.#grants.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #openQueue(ring: BlockRing, image: BlockImage | undefined): void {
    ring.queue = image?.createQueue({ depth: ring.back.size, memory: this.#memory });
    if (ring.queue && ring.transfer === 'map') {
      ring.mapper = new PageMapper(this.#grants, ring.domid, ring.queue, ring.persistentPages);
    }
    ring.queue?.onComplete((tags, results, count) => this.#completed(tags, results, count));
  }

  #pause(ring: BlockRing): Promise<void> {
    ring.paused++;
    return idle(ring);
  }

  #resume(ring: BlockRing): void {
    ring.paused--;
    this.#wake(ring);
    this.#schedule();
  }

  async #setImage(ring: BlockRing, image: BlockImage | undefined): Promise<void> {
    const old = ring.queue;
    ring.mapper?.close();
    ring.mapper = undefined;
    this.#openQueue(ring, image);
    await old?.close();
  }

  async #detach(ring: BlockRing): Promise<void> {
    if (this.#rings[ring.index] !== ring) return;
    await this.#pause(ring);
    if (this.#rings[ring.index] !== ring) return;
    this.#rings[ring.index] = undefined;
    this.#byPort[ring.port] = undefined;
    this.#awake = this.#awake.filter((other) => other !== ring);
    ring.mapper?.close();
    await ring.queue?.close();
    this.#events.unbind(ring.port);
    this.#grants.unmap(ring.mapping);
  }

  #fired(ports: Uint32Array, count: number): void {
    for (let i = 0; i < count; i++) {
      const ring = this.#byPort[ports[i]];
      if (!ring) continue;
      ring.counters.event();
      ring.masked = true;
      this.#wake(ring);
    }
    this.#service();
  }

  #wake(ring: BlockRing): void {
    if (ring.awake) return;
    ring.awake = true;
    this.#awake.push(ring);
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
    this.#now = performance.now();
    const until = this.#now + TURN_MS;
    let busy: boolean;
    do busy = this.#pass() || !this.#settle();
    while (busy && this.#now < until);
    this.#serving = false;
    if (busy) this.#schedule();
  }

  /** One round over all awake rings. False when there was nothing to do. */
  #pass(): boolean {
    const pulled = this.#pull();
    this.#admit();
    this.#start();
    this.#poll();
    const answered = this.#done.count;
    this.#answer();
    return pulled > 0 || answered > 0 || this.#again.count > 0;
  }

  #pull(): number {
    let taken = 0;
    for (let i = 0; i < this.#awake.length; i++) {
      const ring = this.#awake[i];
      if (ring.open) taken += this.#pullRing(ring);
    }
    return taken;
  }

  #pullRing(ring: BlockRing): number {
    const { back } = ring;
    const count = back.harvest();
    if (count === 0) return 0;
    if (count < 0) {
      ring.broken = true;
      ring.listener.broken(overflow());
      return 0;
    }
    const t = this.#table;
    for (let i = 0; i < count; i++) {
      const row = t.take();
      back.takeRequest(t.words, row * ROW_WORDS);
      t.ring[row] = ring.index;
      t.phase[row] = Phase.pulled;
      t.status[row] = BlkifStatus.okay;
      t.pulledAt[row] = this.#now;
      this.#fresh.add(row);
      ring.pending++;
      if (requestOperation(t.words, row * ROW_WORDS) === BlkifOp.writeBarrier) {
        ring.barrier = row;
        ring.barrierParked = false;
        break;
      }
    }
    ring.counters.pass(ring.pending);
    return count;
  }

  /** Checks what was taken, finds memory for it and copies in what it writes. What finds none waits, in order. */
  #admit(): void {
    const { items, count } = this.#fresh;
    if (count === 0) return;
    for (let i = 0; i < count; i++) this.#inspect(items[i]);
    this.#indirectIn.run();
    let kept = 0;
    for (let i = 0; i < count; i++) if (!this.#prepare(items[i], kept > 0)) items[kept++] = items[i];
    this.#fresh.count = kept;
    this.#copyIn.run();
  }

  #inspect(row: number): void {
    const t = this.#table;
    const ring = this.#ringOf(row);
    const bad = checkHeader(t, row, ring.geometry);
    if (bad !== 0) {
      this.#refuse(row, bad);
      return;
    }
    const indirect = requestOperation(t.words, row * ROW_WORDS) === BlkifOp.indirect;
    if (!indirect || this.#fetchSegments(row, ring)) t.phase[row] = Phase.complete;
  }

  /** Stages the copy of a request's indirect pages. False when there is no memory for them now. */
  #fetchSegments(row: number, ring: BlockRing): boolean {
    const t = this.#table;
    const bytes = t.segments[row] * SEGMENT_WORDS * 4;
    const at = this.#pool.take(bytes);
    if (at === NONE) return false;
    t.indirect[row] = at;
    const pageBytes = SEGMENTS_PER_INDIRECT_PAGE * SEGMENT_WORDS * 4;
    for (let page = 0; page * pageBytes < bytes; page++) {
      const from = page * pageBytes;
      const ref = indirectGref(t.words, row * ROW_WORDS, ring.abi, page);
      const length = Math.min(pageBytes, bytes - from);
      this.#indirectIn.fromGrant(row, ring.domid, ref, 0, this.#memoryAddress + at + from, length);
    }
    return true;
  }

  /** False when the request has to wait for memory. */
  #prepare(row: number, starving: boolean): boolean {
    const t = this.#table;
    if (t.phase[row] === Phase.done) return true;
    if (starving || t.phase[row] === Phase.pulled) return this.#wait(row);
    if (t.status[row] !== BlkifStatus.okay) return this.#finish(row);
    const ring = this.#ringOf(row);
    const bad = checkRange(t, row, ring.abi, ring.geometry, this.#segmentWords(row), this.#segmentAt(row, ring));
    if (bad !== 0) {
      this.#refuse(row, bad);
      return true;
    }
    if (t.segments[row] > 0 && !this.#takeData(row, ring)) return this.#wait(row);
    t.phase[row] = Phase.ready;
    this.#ready.add(row);
    return true;
  }

  /** Makes a request's data reachable for the engine: maps its pages, or finds memory and copies in what it writes. */
  #takeData(row: number, ring: BlockRing): boolean {
    const t = this.#table;
    const read = t.operation[row] === BlkifOp.read;
    if (ring.mapper) {
      const words = this.#segmentWords(row);
      const mapped = ring.mapper.map(row, words, this.#segmentAt(row, ring), t.segments[row], read);
      if (!mapped) this.#grantFailed(row);
      return true;
    }
    t.buffer[row] = this.#pool.take(t.length[row]);
    if (t.buffer[row] === NONE) return false;
    if (!read) this.#copySegments(row, ring, this.#copyIn, false);
    return true;
  }

  /** Gives back what a waiting request holds, so that those before it can end; it starts over when its turn comes. */
  #wait(row: number): false {
    this.#giveIndirect(row);
    if (this.#table.phase[row] === Phase.complete) this.#ringOf(row).counters.starved();
    this.#table.phase[row] = Phase.pulled;
    return false;
  }

  #copySegments(row: number, ring: BlockRing, stage: CopyStage, toGuest: boolean): void {
    const t = this.#table;
    const words = this.#segmentWords(row);
    let at = this.#segmentAt(row, ring);
    let address = this.#memoryAddress + t.buffer[row];
    for (let i = t.segments[row]; i > 0; i--, at += SEGMENT_WORDS) {
      const first = segmentFirst(words, at);
      const length = (segmentLast(words, at) - first + 1) * SECTOR_SIZE;
      const ref = segmentGref(words, at);
      if (toGuest) stage.toGrant(row, ring.domid, ref, first * SECTOR_SIZE, address, length);
      else stage.fromGrant(row, ring.domid, ref, first * SECTOR_SIZE, address, length);
      address += length;
    }
  }

  #segmentWords(row: number): Int32Array {
    return this.#table.indirect[row] === NONE ? this.#table.words : this.#memoryWords;
  }

  #segmentAt(row: number, ring: BlockRing): number {
    const indirect = this.#table.indirect[row];
    return indirect === NONE ? row * ROW_WORDS + ring.abi.segmentsWord : indirect >> 2;
  }

  #start(): void {
    this.#startMerged();
    this.#startAgain();
    for (let i = 0; i < this.#staged.length; i++) {
      const ring = this.#staged[i];
      ring.staged = false;
      ring.queue!.submit();
    }
    this.#staged.length = 0;
  }

  /** Starts what was admitted in this pass; reads or writes that continue each other become one engine call. */
  #startMerged(): void {
    const t = this.#table;
    const { items, count } = this.#ready;
    for (let i = 0; i < count; ) {
      const row = items[i++];
      let last = row;
      let rows = 1;
      let bytes = t.length[row];
      let segments = t.segments[row];
      while (i < count && rows < MAX_MERGED_ROWS && this.#continues(last, items[i])) {
        bytes += t.length[items[i]];
        segments += t.segments[items[i]];
        if (bytes > MAX_MERGED_BYTES || segments > MAX_MERGED_SEGMENTS) break;
        t.next[last] = items[i];
        last = items[i++];
        rows++;
      }
      if (rows > 1) this.#ringOf(row).counters.merged(accountingClass(t.operation[row]), rows - 1);
      this.#begin(row);
    }
    this.#ready.clear();
  }

  #continues(row: number, next: number): boolean {
    const t = this.#table;
    const operation = t.operation[row];
    return (
      t.operation[next] === operation &&
      (operation === BlkifOp.read || operation === BlkifOp.write) &&
      t.ring[next] === t.ring[row] &&
      t.offset[next] === t.offset[row] + t.length[row] &&
      t.status[row] === BlkifStatus.okay &&
      t.status[next] === BlkifStatus.okay
    );
  }

  #startAgain(): void {
    if (this.#again.count === 0) return;
    const list = this.#again;
    this.#again = this.#spare;
    this.#spare = list;
    for (let i = 0; i < list.count; i++) this.#begin(list.items[i]);
    list.clear();
  }

  /** Gives a request, or the chain that it leads, to the engine. */
  #begin(row: number): void {
    const t = this.#table;
    const ring = this.#ringOf(row);
    if (t.status[row] !== BlkifStatus.okay) {
      this.#finish(row);
      return;
    }
    switch (t.operation[row]) {
      case BlkifOp.read:
        this.#push(row, ring, BlockOp.read);
        break;
      case BlkifOp.write:
        this.#push(row, ring, BlockOp.write);
        break;
      case BlkifOp.writeBarrier:
        ring.barrierParked = ring.pending > 1;
        if (!ring.barrierParked) this.#beginFlush(row, ring, BlockOp.writeFua);
        break;
      case BlkifOp.flushDiskcache:
        this.#beginFlush(row, ring, BlockOp.write);
        break;
      default:
        if (t.length[row] === 0) this.#finish(row);
        else this.#push(row, ring, isSecureDiscard(t, row) ? this.#secureDiscard(ring) : BlockOp.discard);
    }
  }

  /** A flush, then the write of its data, if it has any. */
  #beginFlush(row: number, ring: BlockRing, write: BlockOp): void {
    const t = this.#table;
    if (t.phase[row] === Phase.flushed) {
      this.#push(row, ring, write);
      return;
    }
    if (ring.geometry.readOnly || ring.queue === undefined) {
      this.#finish(row);
      return;
    }
    const length = t.length[row];
    t.length[row] = 0;
    this.#push(row, ring, BlockOp.flush);
    t.length[row] = length;
    if (length > 0 && t.phase[row] === Phase.queued) t.phase[row] = Phase.preflush;
  }

  #secureDiscard(ring: BlockRing): BlockOp {
    return ring.geometry.secureDiscard ? BlockOp.secureDiscard : BlockOp.discard;
  }

  #push(leader: number, ring: BlockRing, operation: BlockOp): void {
    const t = this.#table;
    let count = 0;
    let bytes = 0;
    for (let row = leader; row !== NONE; row = t.next[row]) {
      bytes += t.length[row];
      t.phase[row] = Phase.queued;
      t.queuedAt[row] = this.#now;
      if (t.length[row] > 0 && t.segments[row] > 0) count = this.#addIov(row, ring, count);
    }
    if (!ring.queue?.push(operation, leader, t.offset[leader], bytes, this.#iov, count)) {
      this.#ended(leader, EAGAIN);
      return;
    }
    if (ring.staged) return;
    ring.staged = true;
    this.#staged.push(ring);
  }

  #addIov(row: number, ring: BlockRing, count: number): number {
    const t = this.#table;
    if (ring.mapper)
      return ring.mapper.addIov(row, this.#segmentWords(row), this.#segmentAt(row, ring), this.#iov, count);
    const at = count * IOV_WORDS;
    this.#iov[at] = 0;
    this.#iov[at + 1] = t.buffer[row];
    this.#iov[at + 2] = t.length[row];
    return count + 1;
  }

  #poll(): void {
    for (let i = 0; i < this.#awake.length; i++) {
      const { queue } = this.#awake[i];
      if (queue !== undefined && queue.inFlight > 0) queue.poll();
    }
  }

  #completed(tags: Int32Array, results: Int32Array, count: number): void {
    this.#now = performance.now();
    for (let i = 0; i < count; i++) this.#ended(tags[i], results[i]);
    if (!this.#serving) this.#service();
  }

  /** An engine call has ended. A merged one that failed is done again in its parts, so that only the bad part fails. */
  #ended(leader: number, result: number): void {
    const t = this.#table;
    const ring = this.#ringOf(leader);
    this.#wake(ring);
    if (result >= 0 && t.phase[leader] === Phase.preflush) {
      t.phase[leader] = Phase.flushed;
      this.#again.add(leader);
      return;
    }
    const alone = t.next[leader] === NONE;
    for (let row = leader, next: number; row !== NONE; row = next) {
      next = t.next[row];
      t.next[row] = NONE;
      if (result < 0 && !alone) this.#again.add(row);
      else this.#settleRow(row, ring, result);
    }
  }

  #settleRow(row: number, ring: BlockRing, result: number): void {
    const t = this.#table;
    if (result === EOPNOTSUPP && t.operation[row] !== BlkifOp.read && t.operation[row] !== BlkifOp.write) {
      t.status[row] = BlkifStatus.eopnotsupp;
      ring.listener.unsupported(t.operation[row]);
    } else if (result < 0) {
      t.status[row] = BlkifStatus.error;
    }
    this.#finish(row);
  }

  #refuse(row: number, reason: number): void {
    const t = this.#table;
    const ring = this.#ringOf(row);
    ring.reportBad(reason, this.#now);
    if (reason === BadRequest.unknownOperation) ring.counters.unknown();
    else ring.counters.invalid(accountingClass(t.operation[row]));
    t.status[row] = badRequestStatus(reason as BadRequest);
    t.length[row] = 0;
    t.refused[row] = 1;
    this.#finish(row);
  }

  #grantFailed(row: number): void {
    const t = this.#table;
    if (t.status[row] !== BlkifStatus.okay) return;
    t.status[row] = BlkifStatus.error;
    this.#ringOf(row).reportBad(BadRequest.badGrant, this.#now);
  }

  #finish(row: number): true {
    const t = this.#table;
    t.phase[row] = Phase.done;
    t.completedAt[row] = this.#now;
    this.#done.add(row);
    return true;
  }

  /** Copies out what was read, puts and pushes the answers, and notifies the frontends that asked for it. */
  #answer(): void {
    const { items, count } = this.#done;
    if (count === 0) return;
    this.#now = performance.now();
    const t = this.#table;
    for (let i = 0; i < count; i++) {
      const row = items[i];
      if (t.buffer[row] === NONE || t.operation[row] !== BlkifOp.read || t.status[row] !== BlkifStatus.okay) continue;
      this.#copySegments(row, this.#ringOf(row), this.#copyOut, true);
    }
    this.#copyOut.run();
    this.#now = performance.now();
    for (let i = 0; i < count; i++) this.#respond(items[i]);
    this.#done.clear();
    for (let i = 0; i < this.#touched.length; i++) this.#pushResponses(this.#touched[i]);
    this.#touched.length = 0;
  }

  #respond(row: number): void {
    const t = this.#table;
    const ring = this.#ringOf(row);
    const at = row * ROW_WORDS;
    const { abi } = ring;
    this.#account(row, ring);
    ring.mapper?.unmap(row);
    if (!ring.broken) {
      const low = requestIdLow(t.words, at, abi);
      const high = requestIdHigh(t.words, at, abi);
      encodeResponse(this.#response, 0, abi, low, high, t.operation[row], t.status[row]);
      ring.back.putResponse(this.#response, 0, abi.responseWords);
    }
    if (ring.barrier === row) ring.barrier = NONE;
    this.#release(row);
    ring.pending--;
    if (ring.answered) return;
    ring.answered = true;
    this.#touched.push(ring);
  }

  #account(row: number, ring: BlockRing): void {
    const t = this.#table;
    if (t.refused[row] === 1) return;
    const kind = accountingClass(t.operation[row]);
    if (t.status[row] !== BlkifStatus.okay) {
      ring.counters.failed(kind);
      return;
    }
    ring.counters.done(kind, t.length[row]);
    ring.counters.latency(kind, t.pulledAt[row], t.queuedAt[row], t.completedAt[row], this.#now);
  }

  #release(row: number): void {
    const t = this.#table;
    this.#giveIndirect(row);
    if (t.buffer[row] !== NONE) this.#pool.give(t.buffer[row]);
    t.buffer[row] = NONE;
    t.give(row);
  }

  #giveIndirect(row: number): void {
    const at = this.#table.indirect[row];
    if (at === NONE) return;
    this.#pool.give(at);
    this.#table.indirect[row] = NONE;
  }

  #pushResponses(ring: BlockRing): void {
    ring.answered = false;
    ring.counters.inFlight(ring.pending);
    if (!ring.broken && ring.back.pushResponses()) {
      this.#events.notify(ring.port);
      ring.counters.notification();
    }
    if (ring.barrierParked && ring.pending === 1) {
      ring.barrierParked = false;
      this.#again.add(ring.barrier);
    }
    if (ring.pending === 0 && ring.whenIdle.length > 0) tellIdle(ring);
  }

  /** Puts the rings that have nothing more to do to sleep; false when one of them has something after all. */
  #settle(): boolean {
    const { length } = this.#awake;
    let ports = 0;
    let still = 0;
    for (let i = 0; i < length; i++) {
      const ring = this.#awake[i];
      if (ring.open && ring.back.finalCheck()) {
        this.#awake[still++] = ring;
        continue;
      }
      ring.awake = false;
      if (!ring.masked) continue;
      ring.masked = false;
      if (ports === this.#ports.length) this.#ports = largerPorts(this.#ports);
      this.#ports[ports++] = ring.port;
    }
    this.#awake.length = still;
    if (ports > 0) this.#events.unmask(this.#ports, ports);
    return still === 0;
  }

  #ringOf(row: number): BlockRing {
    return this.#rings[this.#table.ring[row]]!;
  }
}

function copyFunction(grants: GrantTable, native: boolean, memory: ArrayBufferLike, base: number): CopyFunction {
  if (native) return (batch) => grants.copy(batch);
  const bytes = new Uint8Array(memory);
  return (batch) => copyByMapping(grants, batch, bytes, base);
}

function overflow(): XenBlockError {
  const text = 'the frontend put more requests on its ring than the ring has slots';
  return new XenBlockError('EINVAL', 'serve', text);
}

/** A multi-page ring must be one piece of memory. */
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

function accountingClass(operation: number): AccountingClass {
  switch (operation) {
    case BlkifOp.read:
      return AccountingClass.read;
    case BlkifOp.flushDiskcache:
      return AccountingClass.flush;
    case BlkifOp.discard:
      return AccountingClass.discard;
    default:
      return AccountingClass.write;
  }
}

function largerPorts(ports: Uint32Array): Uint32Array<ArrayBuffer> {
  const larger = new Uint32Array(ports.length * 2);
  larger.set(ports);
  return larger;
}

function idle(ring: BlockRing): Promise<void> {
  if (ring.pending === 0) return Promise.resolve();
  return new Promise((resolve) => ring.whenIdle.push(resolve));
}

function tellIdle(ring: BlockRing): void {
  const waiters = ring.whenIdle;
  ring.whenIdle = [];
  for (const resolve of waiters) resolve();
}
