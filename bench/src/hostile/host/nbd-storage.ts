import { type BlockImage, type ImageDisk, nbdDiskOf, openNbdImage } from '@xenpv/blockdev';
import { NbdServer } from '@xenpv/nbd';

const EXPORT = 'disk';

/** A disk behind a server of this process, which any thread can connect to. */
export class NbdStorage {
  readonly #image: BlockImage;
  readonly #disk: ImageDisk;
  readonly #server: NbdServer;
  readonly #path: string;
  readonly #listening: Promise<void>;

  /** `image` is the server's from now on. */
  constructor(image: BlockImage, path: string) {
    this.#image = image;
    this.#path = path;
    this.#disk = nbdDiskOf(image);
    this.#server = new NbdServer({ [EXPORT]: this.#disk });
    const { listener } = this.#server;
    this.#listening = new Promise((resolve, reject) => {
      listener.once('error', reject);
      listener.listen(path, resolve);
    });
  }

  async open(): Promise<BlockImage> {
    await this.#listening;
    return openNbdImage(this.#path, { exportName: EXPORT });
  }

  async close(): Promise<void> {
    await this.#listening;
    await this.#server.close();
    await this.#disk[Symbol.asyncDispose]();
    await this.#image.close();
  }
}
