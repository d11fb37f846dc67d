import { type BlockImage, nbdDiskOf } from '@xenpv/blockdev';

/** Has all that was written to an image put on stable storage, and closes it, whatever comes of that. Rejects as the flush does. */
export async function flushAndClose(image: BlockImage): Promise<void> {
  try {
    const disk = nbdDiskOf(image);
    try {
      await disk.flush();
    } finally {
      await disk[Symbol.asyncDispose]();
    }
  } finally {
    await image.close();
  }
}
