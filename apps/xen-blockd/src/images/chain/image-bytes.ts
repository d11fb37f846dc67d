import { close, constants, fstat, read } from 'node:fs';
import { promisify } from 'node:util';
import type { PinnedFile } from '@xenpv/blockdev';

const readFile = promisify(read);
const closeFile = promisify(close);
const statFile = promisify(fstat);

/** No header that is looked at here is longer: the largest cluster of a qcow2 image. */
const MOST_BYTES = 2 << 20;

/** The bytes of an image, as its header's parser reads them. */
export class ImageBytes {
  readonly #fd: number;
  /** Bytes of a file; 0 for a block device. */
  readonly size: number;

  private constructor(fd: number, size: number) {
    this.#fd = fd;
    this.size = size;
  }

  /** Runs `use` with the bytes of a file. Rejects with a BlockDeviceError if it may not be read. */
  static async with<T>(file: PinnedFile, use: (bytes: ImageBytes) => Promise<T>): Promise<T> {
    const fd = await file.open(constants.O_RDONLY);
    try {
      return await use(new ImageBytes(fd, (await statFile(fd)).size));
    } finally {
      await closeFile(fd);
    }
  }

  /** So many bytes from there, with zeroes for what is past the end; at most two MiB. */
  async read(offset: number, length: number): Promise<Buffer> {
    const bytes = Buffer.alloc(Math.min(length, MOST_BYTES));
    if (!Number.isSafeInteger(offset)) return bytes;
    for (let at = 0; at < bytes.length; ) {
      const { bytesRead } = await readFile(this.#fd, bytes, at, bytes.length - at, offset + at);
      if (bytesRead === 0) break;
      at += bytesRead;
    }
    return bytes;
  }
}

/** Text up to the first zero byte. */
export function textOf(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.toString('utf8', 0, end < 0 ? bytes.length : end);
}
