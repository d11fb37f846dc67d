import type { Addon } from '../addon.js';
import type { ImageExtent } from '../block-image.js';
import { BlockDeviceError, errnoNameOf } from '../errors.js';
import { wholeSectorExtents } from '../extents.js';

/** What the file system stores of a file. One look at a time: storage that hangs is to have one thread of the pool. */
export class FileExtents {
  readonly #addon: Addon;
  readonly #fd: number;
  readonly #path: string;
  #looking: Promise<unknown> = Promise.resolve();

  constructor(addon: Addon, fd: number, path: string) {
    this.#addon = addon;
    this.#fd = fd;
    this.#path = path;
  }

  /** See `extents` of BlockImage. Error: what lseek(2) says. */
  find(offset: number, length: number, sectorSize: number): Promise<readonly ImageExtent[]> {
    const found = this.#looking.then(() => this.#find(offset, length));
    this.#looking = found.catch(() => {});
    return found.then((extents) => wholeSectorExtents(extents, sectorSize));
  }

  /** Resolves when the descriptor is not used any more. */
  async close(): Promise<void> {
    await this.#looking;
  }

  #find(offset: number, length: number): Promise<ImageExtent[]> {
    return new Promise((resolve, reject) => {
      this.#addon.extents(this.#fd, offset, length, (result, ends) => {
        if (result < 0) return reject(this.#error(result));
        const extents = Array.from(ends, (end, i) => {
          const isHole = i % 2 === 1;
          return { length: end - (i === 0 ? offset : ends[i - 1]), isHole, isZero: isHole };
        });
        return resolve(extents);
      });
    });
  }

  #error(result: number): BlockDeviceError {
    const [code, path] = [errnoNameOf(result), this.#path];
    return new BlockDeviceError(code, 'operate', `${path} does not tell where it has data: ${code}`, { path });
  }
}
