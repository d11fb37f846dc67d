import { type BlockQueue, type CompletionListener, ImageWrapper } from '@xenpv/blockdev';

/** Storage that hangs: it takes whatever comes and ends nothing. */
export class StalledImage extends ImageWrapper {
  override createQueue(options: { depth: number; memory: ArrayBufferLike }): BlockQueue {
    return new StalledQueue(options);
  }

  override share(): undefined {
    return undefined;
  }
}

class StalledQueue implements BlockQueue {
  readonly depth: number;
  readonly memory: ArrayBufferLike;
  readonly completionFd = -1;
  inFlight = 0;

  constructor({ depth, memory }: { depth: number; memory: ArrayBufferLike }) {
    this.depth = depth;
    this.memory = memory;
  }

  addRegion(): number {
    return 1;
  }

  removeRegion(): void {}

  push(): boolean {
    this.inFlight++;
    return true;
  }

  submit(): void {}

  poll(): number {
    return 0;
  }

  onComplete(_listener: CompletionListener): void {}

  async close(): Promise<void> {}

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
