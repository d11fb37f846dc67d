import { channel } from 'node:diagnostics_channel';

/** Published on `blockdev:engine:fallback` when an image is served by another engine than wanted. */
export interface EngineFallback {
  readonly path: string;
  readonly wanted: 'io_uring';
  readonly used: 'threads';
  /** Why, for people. */
  readonly reason: string;
}

/** Published on `blockdev:image:odd-size` when an image does not end with a sector, once for each such size. */
export interface OddSize {
  readonly path: string;
  /** Bytes of the image. */
  readonly size: number;
  /** Bytes that are served: whole sectors. */
  readonly served: number;
  /** Bytes. */
  readonly sectorSize: number;
}

const fallbacks = channel('blockdev:engine:fallback');

const oddSizes = channel('blockdev:image:odd-size');

export function reportFallback(message: EngineFallback): void {
  if (fallbacks.hasSubscribers) fallbacks.publish(message);
}

export function reportOddSize(message: OddSize): void {
  if (oddSizes.hasSubscribers) oddSizes.publish(message);
}
