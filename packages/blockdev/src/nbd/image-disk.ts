import { NBD_BASE_ALLOCATION, type NbdContext, type NbdDisk, NbdState } from '@xenpv/nbd';
import { type BlockImage, BlockOp, type BlockQueue } from '../block-image.js';
import { BlockDeviceError, errnoNameOf } from '../errors.js';
import { allocateMemory } from '../queue/buffer.js';
import { exactResult } from '../queue/exact-result.js';

const SLOTS = 16;
const SLOT_BYTES = 256 * 1024;
const NO_IOV = new Float64Array(0);

/** The disk of an NBD export (`NbdServer`), which must be disposed of before its image is closed. */
export interface ImageDisk extends NbdDisk, AsyncDisposable {
  /**
   * The image is about to close: what waits for storage that is away fails soon, whoever has asked for it. The disk must
   * be disposed of then.
   */
  giveUp(): void;
}

/** What an export lets its clients do. */
export interface ImageDiskOptions {
  /** True: only read. Their flushes do nothing then, since they have written nothing. Otherwise as the image. */
  readonly readOnly?: boolean | undefined;
  /** What they may ask for besides `base:allocation`. */
  readonly contexts?: readonly NbdContext[] | undefined;
}

/**
 * An image as the disk of an NBD export. Its queue and memory are made when the first request comes; disposing of it
 * waits for requests in flight and leaves the image open. A failed request rejects with a BlockDeviceError whose `code`
 * is the errno's name. Clients may ask for `base:allocation`.
 */
export function nbdDiskOf(
  image: BlockImage,
  { readOnly = image.readOnly, contexts = [] }: ImageDiskOptions = {},
): ImageDisk {
  const allowed = { readOnly: readOnly || image.readOnly, contexts: [allocationOf(image), ...contexts] };
  const discards = image.features.discard && !allowed.readOnly;
  return discards ? new DiscardingDisk(image, allowed) : new ImageNbdDisk(image, allowed);
}

/** Where nobody can tell all is data. */
function allocationOf(image: BlockImage): NbdContext {
  return {
    name: NBD_BASE_ALLOCATION,
    status: async (offset, length) => {
      const extents = (await image.extents?.(offset, length).catch(() => undefined)) ?? [];
      if (extents.length === 0) return [{ length, flags: 0 }];
      return extents.map(({ length: bytes, isHole, isZero }) => ({
        length: bytes,
        flags: (isHole ? NbdState.hole : 0) | (isZero ? NbdState.zero : 0),
      }));
    },
  };
}

interface AllowedUse {
  readonly readOnly: boolean;
  readonly contexts: readonly NbdContext[];
}

interface Pending {
  /** Bytes. */
  readonly expected: number;
  resolve(): void;
  reject(error: Error): void;
}

class ImageNbdDisk implements ImageDisk {
  readonly blockSize: number;
  readonly readOnly: boolean;
  readonly contexts: readonly NbdContext[];
  readonly #image: BlockImage;
  /** By tag. Each operation has its own, so that what ends twice or late is not taken for another's end. */
  readonly #pending = new Map<number, Pending>();
  #nextTag = 0;
  readonly #freeSlots = Array.from({ length: SLOTS }, (_, slot) => slot);
  readonly #waiting: ((slot: number) => void)[] = [];
  #queue: BlockQueue | undefined;

  constructor(image: BlockImage, { readOnly, contexts }: AllowedUse) {
    this.#image = image;
    this.blockSize = image.sectorSize;
    this.readOnly = readOnly;
    this.contexts = contexts;
  }

  get size(): number {
    return this.#image.size;
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const data = new Uint8Array(length);
    await this.#inPieces(length, async (slot, at, bytes) => {
      await this.#operate(BlockOp.read, slot, offset + at, bytes);
      data.set(this.#slotBytes(slot, bytes), at);
    });
    return data;
  }

  write(offset: number, data: Uint8Array): Promise<void> {
    return this.#inPieces(data.length, async (slot, at, bytes) => {
      this.#slotBytes(slot, bytes).set(data.subarray(at, at + bytes));
      await this.#operate(BlockOp.write, slot, offset + at, bytes);
    });
  }

  async flush(): Promise<void> {
    if (this.#image.features.flush && !this.readOnly) await this.withoutData(BlockOp.flush, 0, 0);
  }

  giveUp(): void {
    this.#queue?.giveUp?.();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#queue?.close();
  }

  protected withoutData(op: BlockOp, offset: number, length: number): Promise<void> {
    return this.#withSlot((slot) => this.#operate(op, slot, offset, length));
  }

  async #inPieces(length: number, move: (slot: number, at: number, bytes: number) => Promise<void>): Promise<void> {
    const pieces: Promise<void>[] = [];
    for (let at = 0; at < length; at += SLOT_BYTES) {
      const bytes = Math.min(SLOT_BYTES, length - at);
      pieces.push(this.#withSlot((slot) => move(slot, at, bytes)));
    }
    await Promise.all(pieces);
  }

  /** A slot is a piece of the queue's memory. */
  async #withSlot(work: (slot: number) => Promise<void>): Promise<void> {
    const slot = this.#freeSlots.pop() ?? (await new Promise<number>((resolve) => this.#waiting.push(resolve)));
    try {
      await work(slot);
    } finally {
      const next = this.#waiting.shift();
      if (next) next(slot);
      else this.#freeSlots.push(slot);
    }
  }

  #slotBytes(slot: number, bytes: number): Uint8Array {
    return new Uint8Array(this.#openQueue().memory, slot * SLOT_BYTES, bytes);
  }

  #operate(op: BlockOp, slot: number, offset: number, length: number): Promise<void> {
    const queue = this.#openQueue();
    const moves = op === BlockOp.read || op === BlockOp.write;
    const iov = moves ? Float64Array.of(0, slot * SLOT_BYTES, length) : NO_IOV;
    const tag = this.#nextTag;
    this.#nextTag = (tag + 1) | 0;
    return new Promise((resolve, reject) => {
      this.#pending.set(tag, { expected: moves ? length : 0, resolve, reject });
      queue.push(op, tag, offset, length, iov, moves ? 1 : 0);
      queue.submit();
    });
  }

  #openQueue(): BlockQueue {
    if (this.#queue) return this.#queue;
    const queue = this.#image.createQueue({ depth: SLOTS, memory: allocateMemory(SLOTS * SLOT_BYTES) });
    queue.onComplete((tags, results, count) => {
      for (let i = 0; i < count; i++) this.#completed(tags[i], results[i]);
    });
    this.#queue = queue;
    return queue;
  }

  #completed(tag: number, said: number): void {
    const pending = this.#pending.get(tag);
    if (!pending) return;
    this.#pending.delete(tag);
    const result = exactResult(pending.expected, said);
    if (result >= 0) pending.resolve();
    else pending.reject(this.#error(result));
  }

  #error(result: number): BlockDeviceError {
    const code = errnoNameOf(result);
    const path = this.#image.description;
    return new BlockDeviceError(code, 'operate', `${path} answers ${code}`, { path });
  }
}

/** An export offers TRIM if its disk has `discard`. */
class DiscardingDisk extends ImageNbdDisk {
  discard(offset: number, length: number): Promise<void> {
    return this.withoutData(BlockOp.discard, offset, length);
  }
}
