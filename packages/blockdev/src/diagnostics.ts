import { channel } from 'node:diagnostics_channel';

/** Published on `blockdev:engine:fallback` when an image is served by another engine than wanted. */
export interface EngineFallback {
  readonly path: string;
  readonly wanted: 'io_uring';
  readonly used: 'threads';
  /** Why, for people. */
  readonly reason: string;
}

/** Published on `blockdev:lock:unavailable` when an image that should be locked cannot be, and is served without. */
export interface LockUnavailable {
  readonly path: string;
  /** Why, for people. */
  readonly reason: string;
}

const unavailableLocks = channel('blockdev:lock:unavailable');

export function reportLockUnavailable(message: LockUnavailable): void {
  if (unavailableLocks.hasSubscribers) unavailableLocks.publish(message);
}

const fallbacks = channel('blockdev:engine:fallback');

export function reportFallback(message: EngineFallback): void {
  if (fallbacks.hasSubscribers) fallbacks.publish(message);
}
