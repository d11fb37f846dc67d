import type { BlockFeatures, BlockImage, BlockQueue, SharedImage } from '@xenpv/blockdev';

/** An image that is another one under its own name, with something more to be closed. */
export class DelegatingImage implements BlockImage {
  readonly engine: string;
  readonly description: string;
  readonly sectorSize: number;
  readonly physicalSectorSize: number;
  readonly readOnly: boolean;
  readonly features: BlockFeatures;
  readonly #image: BlockImage;
  readonly #close: (closeImage: () => Promise<void>) => Promise<void>;
  #closing: Promise<void> | undefined;

  /** `close` gets how to close `image`, and closes the rest before or after it. */
  constructor(
    image: BlockImage,
    options: {
      readonly engine?: string;
      readonly description?: string;
      readonly close: (closeImage: () => Promise<void>) => Promise<void>;
    },
  ) {
    this.engine = options.engine ?? image.engine;
    this.description = options.description ?? image.description;
    this.sectorSize = image.sectorSize;
    this.physicalSectorSize = image.physicalSectorSize;
    this.readOnly = image.readOnly;
    this.features = image.features;
    this.#image = image;
    this.#close = options.close;
  }

  get size(): number {
    return this.#image.size;
  }

  createQueue(options: Parameters<BlockImage['createQueue']>[0]): BlockQueue {
    return this.#image.createQueue(options);
  }

  refresh(): Promise<number> {
    return this.#image.refresh();
  }

  share(): SharedImage | undefined {
    return this.#image.share();
  }

  close(): Promise<void> {
    this.#closing ??= this.#close(() => this.#image.close());
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
