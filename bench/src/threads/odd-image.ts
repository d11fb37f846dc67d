/** Odd storage on a worker thread of the backend: see `SharedImage` of @xenpv/blockdev. */
import type { BlockImage } from '@xenpv/blockdev';
import { OddImage, type SharedOddImage } from '../hostile/host/odd-image.js';

/** Opens the image that an OddImage has shared. */
export async function attachImage(data: unknown): Promise<BlockImage> {
  const { inner, oddities } = data as SharedOddImage;
  const { attachImage: attachInner } = await import(inner.module);
  return new OddImage(await attachInner(inner.data), oddities);
}
