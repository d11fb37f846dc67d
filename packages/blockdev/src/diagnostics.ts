import { channel } from 'node:diagnostics_channel';

/** Published on `blockdev:engine:fallback` when an image is served by another engine than wanted. */
export interface EngineFallback {
  readonly path: string;
  readonly wanted: 'io_uring';
  readonly used: 'threads';
  /** Why, for people. */
  readonly reason: string;
}

const fallbacks = channel('blockdev:engine:fallback');

export function reportFallback(message: EngineFallback): void {
  if (fallbacks.hasSubscribers) fallbacks.publish(message);
}
