import { allocateMemory, type BlockImage, BlockOp, type BlockQueue } from '@xenpv/blockdev';
import type { NbdDisk } from '@xenpv/nbd';

const SLOTS = 16;
const SLOT_BYTES = 256 * 1024;

interface Pending {
  resolve(): void;
  reject(error: Error): void;
}

/** An image as an NBD export. Its queue and memory are made when the first request comes. */
export class ImageNbdDisk implements NbdDisk, AsyncDisposable {
  readonly blockSize: number;
  readonly readOnly: boolean;
  readonly discard?: (offset: number, length: number) => Promise<void>;
  readonly #image: BlockImage;
  readonly #pending = new Map<number, Pending>();
  readonly #freeSlots = Array.from({ length: SLOTS }, (_, slot) => slot);
  readonly #waiting: ((slot: number) => void)[] = [];
  #queue: BlockQueue | undefined;

  constructor(image: BlockImage) {
    this.#image = image;
    this.blockSize = image.sectorSize;
    this.readOnly = image.readOnly;
    if (image.features.discard) {
      this.discard = (offset, length) => this.#withSlot((slot) => this.#operate(BlockOp.discard, slot, offset, length));
    }
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
    if (this.#image.features.flush) await this.#withSlot((slot) => this.#operate(BlockOp.flush, slot, 0, 0));
  }

  /** Waits for what is in flight. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#queue?.close();
  }

  async #inPieces(length: number, move: (slot: number, at: number, bytes: number) => Promise<void>): Promise<void> {
    const pieces: Promise<void>[] = [];
    for (let at = 0; at < length; at += SLOT_BYTES) {
      const bytes = Math.min(SLOT_BYTES, length - at);
      pieces.push(this.#withSlot((slot) => move(slot, at, bytes)));
    }
    await Promise.all(pieces);
  }

  /** A slot is a piece of the queue's memory, and the tag of the operation that uses it. */
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
    const iov = moves ? Float64Array.of(0, slot * SLOT_BYTES, length) : new Float64Array(0);
    return new Promise((resolve, reject) => {
      this.#pending.set(slot, { resolve, reject });
      queue.push(op, slot, offset, length, iov, moves ? 1 : 0);
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

  #completed(slot: number, result: number): void {
    const pending = this.#pending.get(slot)!;
    this.#pending.delete(slot);
    if (result >= 0) pending.resolve();
    else pending.reject(new Error(`the storage answers with errno ${-result}`));
  }
}
