import {
  type BlockFeatures,
  type BlockImage,
  BlockOp,
  type BlockQueue,
  IOV_WORDS,
  type RefreshOptions,
  type SharedImage,
} from '../block-image.js';
import { checkGeometry } from '../geometry.js';
import { attachModule } from '../package-root.js';
import type { QueueOptions } from '../queue/engine-queue.js';
import { LocalQueue } from '../queue/local-queue.js';
import { OpenQueues } from '../queue/open-queues.js';
import { zero } from '../queue/zero.js';
import { memoryFeatures } from './features.js';

/** What `nullImage` pretends. */
export interface NullImageOptions {
  /** Bytes. */
  readonly size: number;
  /** Bytes, a power of two from 512 on; 512 unless given. */
  readonly sectorSize?: number | undefined;
  /** True: operations that would change the image end with EROFS. False unless given. */
  readonly readOnly?: boolean | undefined;
  /** False leaves the memory of reads as it is, with whatever another request left there: for measurements only. */
  readonly readZeroes?: boolean | undefined;
}

/** Forgets what is written; reads are zeroes. */
class NullQueue extends LocalQueue {
  readonly #readZeroes: boolean;

  constructor(image: NullImage, options: QueueOptions) {
    super(image, options);
    this.#readZeroes = image.readZeroes;
  }

  protected override begin(op: BlockOp, at: number): void {
    if (op === BlockOp.read && this.#readZeroes) this.#zero(at);
    this.complete(this.staging.tag(at), op <= BlockOp.writeFua ? this.staging.length(at) : 0);
  }

  #zero(at: number): void {
    const { iov } = this.staging;
    const end = this.staging.iovEnd(at);
    for (let i = this.staging.iovStart(at); i < end; i += IOV_WORDS) {
      zero(this.regions[iov[i]], iov[i + 1], iov[i + 1] + iov[i + 2]);
    }
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
    this.features = memoryFeatures(this);
  }

  createQueue(options: QueueOptions): BlockQueue {
    return this.#queues.add(new NullQueue(this, options));
  }

  async refresh({ signal }: RefreshOptions = {}): Promise<number> {
    signal?.throwIfAborted();
    return this.size;
  }

  share(): SharedImage {
    const { size, sectorSize, readOnly, readZeroes } = this;
    return { module: attachModule(), data: { kind: 'null', options: { size, sectorSize, readOnly, readZeroes } } };
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
