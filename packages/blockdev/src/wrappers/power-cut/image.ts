import { type BlockImage, BlockOp, IOV_WORDS } from '../../block-image.js';
import type { QueueOptions } from '../../queue/engine-queue.js';
import { Errno } from '../../queue/errno.js';
import { OperationWrapper, type WrappedOperation, WrapperQueue } from '../wrapper-queue.js';
import { Medium } from './medium.js';
import { survivors } from './survivors.js';
import { applyChanges, type CachedChange, WriteCache } from './write-cache.js';

/** What a cut of the power may do to what was written. */
export interface PowerCutOptions {
  /** Of data that was not flushed, at most; what is older reaches `inner` then. 64 MiB unless given. */
  readonly cacheBytes?: number | undefined;
}

/** Which of the changes that no flush has covered are there afterwards: the same for the same seed. */
export interface PowerCut {
  /** Any 32-bit integer. */
  readonly seed: number;
}

/** A disk with a cache that forgets, see {@link powerCutImage}. */
export interface PowerCutImage extends BlockImage {
  /** Bytes of writes that a power cut may take. */
  readonly unflushedBytes: number;
  /**
   * Cuts the power: operations in flight, and all later ones, end with -EIO. Resolves when `inner` has what is left. A
   * second cut is the first one.
   */
  cut(options: PowerCut): Promise<void>;
}

const CACHE_BYTES = 64 << 20;

/**
 * A disk with a volatile cache over `inner`, its medium: what is written stays in memory until a flush. A power cut
 * forgets any of it, whole writes or some of their sectors. It keeps what an answered flush has covered, the writes that
 * had been answered when it began, and every answered `writeFua`. What is in flight together has no order. `inner` has
 * the state after the cut; opened anew it shows what a reboot would find. Without a cut all is written to it at the end.
 *
 * It owns `inner` and stays on its thread. For tests of whatever must survive a power cut.
 */
export function powerCutImage(inner: BlockImage, options: PowerCutOptions = {}): PowerCutImage {
  return new CachedImage(inner, options);
}

class CachedImage extends OperationWrapper implements PowerCutImage {
  readonly cache = new WriteCache();
  readonly #medium: Medium;
  readonly #cacheBytes: number;
  #cut: Promise<void> | undefined;
  #writesBack = false;

  constructor(inner: BlockImage, { cacheBytes = CACHE_BYTES }: PowerCutOptions) {
    super(inner);
    this.#cacheBytes = cacheBytes;
    this.#medium = new Medium(inner);
  }

  get unflushedBytes(): number {
    return this.cache.bytes;
  }

  get isOff(): boolean {
    return this.#cut !== undefined;
  }

  cut({ seed }: PowerCut): Promise<void> {
    this.#cut ??= this.#medium.inTurn(async () => {
      for (const { change, from, length } of survivors(this.cache.changes, this.sectorSize, seed)) {
        await this.#medium.put(change, from, length);
      }
    });
    return this.#cut;
  }

  /** Has changes on the medium for good; resolves with 0 or a negative errno, and they are cached still. */
  keep(changes: readonly CachedChange[]): Promise<number> {
    return this.#medium.inTurn(async () => {
      // What went to the medium meanwhile may be older than what is there by now.
      const due = this.cache.stillOf(changes);
      const result = (await this.#writeOut(due)) || (await this.#flushMedium());
      if (result === 0) this.cache.remove(due);
      return result;
    });
  }

  protected override makeQueue(options: QueueOptions): WrapperQueue {
    return new CachedQueue(this, options);
  }

  /** The cache takes one more: the older half of a full one goes to the medium, as disks do at any time. */
  add(change: CachedChange): void {
    this.cache.add(change);
    if (this.cache.bytes <= this.#cacheBytes || this.#writesBack) return;
    this.#writesBack = true;
    void this.#medium.inTurn(async () => {
      this.#writesBack = false;
      const { changes } = this.cache;
      const oldest = changes.slice(0, Math.ceil(changes.length / 2));
      if ((await this.#writeOut(oldest)) === 0) this.cache.remove(oldest);
    });
  }

  protected override async closeOnce(): Promise<void> {
    await this.closeQueues();
    await this.#medium.inTurn(() => this.#writeOut(this.cache.changes));
    await this.#medium.close();
    await super.closeOnce();
  }

  async #writeOut(changes: readonly CachedChange[]): Promise<number> {
    for (const change of changes) {
      if (this.isOff) return Errno.EIO;
      const result = await this.#medium.put(change);
      if (result < 0) return result;
    }
    return 0;
  }

  async #flushMedium(): Promise<number> {
    return this.isOff ? Errno.EIO : this.#medium.flush();
  }
}

class CachedQueue extends WrapperQueue {
  readonly #image: CachedImage;
  /** By tag, of writes whose end was not delivered. */
  readonly #unanswered = new Map<number, CachedChange>();

  constructor(image: CachedImage, options: QueueOptions) {
    super(image, options);
    this.#image = image;
  }

  protected override beginWrapped(operation: WrappedOperation): void {
    const { op, tag, length } = operation;
    if (this.#image.isOff) this.complete(tag, Errno.EIO);
    else if (op === BlockOp.read) this.#read(operation);
    else if (op === BlockOp.flush) this.#keep(tag, this.#image.cache.answered(), 0);
    else {
      const change = this.#change(operation);
      this.#image.add(change);
      if (op === BlockOp.writeFua) {
        const changes = this.#image.cache.from((other) => other === change);
        this.#keep(tag, changes, length);
      } else {
        this.#unanswered.set(tag, change);
        this.complete(tag, change.data ? length : 0);
      }
    }
  }

  /** What is delivered is known to whoever asked for it, from now on. */
  protected override deliver(count: number): void {
    for (let i = 0; i < count; i++) {
      const change = this.#unanswered.get(this.tags[i]);
      if (change) change.answered = true;
      this.#unanswered.delete(this.tags[i]);
    }
    super.deliver(count);
  }

  #keep(tag: number, changes: readonly CachedChange[], success: number): void {
    void this.#image.keep(changes).then((result) => this.complete(tag, result < 0 ? result : success));
  }

  #change({ op, offset, length, iov }: WrappedOperation): CachedChange {
    const data = iov.length > 0 ? Buffer.concat(this.#pieces(iov)) : undefined;
    return { op: op === BlockOp.writeFua ? BlockOp.write : op, offset, length, data, answered: false };
  }

  /** The cache is what it was at the beginning: what is written meanwhile may be read or not. */
  #read(operation: WrappedOperation): void {
    const { tag, offset, length, iov } = operation;
    const changes = this.#image.cache.within(offset, offset + length);
    this.perform(operation, (result) => {
      let at = offset;
      for (const piece of changes.length > 0 ? this.#pieces(iov) : []) {
        applyChanges(changes, piece, at);
        at += piece.length;
      }
      this.complete(tag, this.#image.isOff ? Errno.EIO : result);
    });
  }

  #pieces(iov: Float64Array): Buffer[] {
    const pieces: Buffer[] = [];
    for (let at = 0; at < iov.length; at += IOV_WORDS) {
      pieces.push(this.regions[iov[at]].subarray(iov[at + 1], iov[at + 1] + iov[at + 2]));
    }
    return pieces;
  }
}
