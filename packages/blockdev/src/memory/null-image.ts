import {
  type BlockFeatures,
  type BlockImage,
  BlockOp,
  type BlockQueue,
  IOV_WORDS,
  type SharedImage,
} from '../block-image.js';
import { checkGeometry } from '../geometry.js';
import { attachModule } from '../package-root.js';
import type { QueueOptions } from '../queue/engine-queue.js';
import { LocalQueue } from '../queue/local-queue.js';
import { OpenQueues } from '../queue/open-queues.js';
import { STAGED_WORDS, StagedWord } from '../queue/staging.js';
import { memoryFeatures } from './features.js';
import { zero } from './zero.js';

/** What `nullImage` pretends. */
export interface NullImageOptions {
  /** Bytes. */
  readonly size: number;
  /** Bytes, a power of two from 512 on; 512 unless given. */
  readonly sectorSize?: number;
  readonly readOnly?: boolean;
  /** False leaves the memory of reads as it is, with whatever another request left there: for measurements only. */
  readonly readZeroes?: boolean;
}

/** Forgets what is written; reads are zeroes. */
class NullQueue extends LocalQueue {
  readonly #readZeroes: boolean;
  readonly #views: Buffer[] = [];

  constructor(image: NullImage, options: QueueOptions) {
    super(image, options);
    this.#readZeroes = image.readZeroes;
    this.#views[0] = Buffer.from(options.memory);
  }

  override addRegion(buffer: ArrayBufferLike): number {
    const region = super.addRegion(buffer);
    this.#views[region] = Buffer.from(buffer);
    return region;
  }

  override submit(): void {
    const { operations, count } = this.staging;
    for (let at = 0; at < count * STAGED_WORDS; at += STAGED_WORDS) {
      const op = operations[at + StagedWord.op];
      if (op === BlockOp.read && this.#readZeroes) this.#zero(at);
      const moved = op <= BlockOp.writeFua ? operations[at + StagedWord.length] : 0;
      this.complete(operations[at + StagedWord.tag], op < 0 ? op : moved);
    }
    this.staging.clear();
  }

  #zero(at: number): void {
    const { iov, operations } = this.staging;
    const first = operations[at + StagedWord.iovAt];
    const end = first + operations[at + StagedWord.iovCount] * IOV_WORDS;
    for (let i = first; i < end; i += IOV_WORDS) zero(this.#views[iov[i]], iov[i + 1], iov[i + 1] + iov[i + 2]);
  }
}

/** A disk without storage. */
class NullImage implements BlockImage {
  readonly engine = 'null';
  readonly description = 'null';
  readonly size: number;
  readonly sectorSize: number;
  readonly physicalSectorSize: number;
  readonly readOnly: boolean;
  readonly readZeroes: boolean;
  readonly features: BlockFeatures;
  readonly #queues = new OpenQueues();

  constructor({ size, sectorSize = 512, readOnly = false, readZeroes = true }: NullImageOptions) {
    this.size = size;
    this.sectorSize = this.physicalSectorSize = sectorSize;
    this.readOnly = readOnly;
    this.readZeroes = readZeroes;
    this.features = memoryFeatures(sectorSize, readOnly);
  }

  createQueue(options: QueueOptions): BlockQueue {
    return this.#queues.add(new NullQueue(this, options));
  }

  async refresh(): Promise<number> {
    return this.size;
  }

  share(): SharedImage {
    const { size, sectorSize, readOnly, readZeroes } = this;
    return { module: attachModule, data: { kind: 'null', options: { size, sectorSize, readOnly, readZeroes } } };
  }

  close(): Promise<void> {
    return this.#queues.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Makes a disk that measures everything but storage. Throws as `memoryImage` does. */
export function nullImage(options: NullImageOptions): BlockImage {
  checkGeometry(options.size, options.sectorSize ?? 512, 'the null disk');
  return new NullImage(options);
}
