import { channel } from 'node:diagnostics_channel';

/** Published on `blockdev:engine:fallback` when an image is served by another engine than wanted. */
export interface EngineFallback {
  /** The image, as it was named to `openFileImage`. */
  readonly path: string;
  /** The first choice of the engine `auto`. */
  readonly wanted: 'io_uring';
  /** Threads that each queue has for itself, or without the addon those of libuv's pool. */
  readonly used: 'threads';
  /** Why, for people. */
  readonly reason: string;
}

/** Published on `blockdev:nbd:lost` when a server goes away: operations wait for it. */
export interface NbdLostEvent {
  /** The socket of the server, or `host:port`. */
  readonly path: string;
  /** Empty for the default export of the server. */
  readonly exportName: string;
  /** Why, for people; undefined when the server just hung up. */
  readonly reason: string | undefined;
  /** Requests that wait for it. */
  readonly inFlight: number;
}

/**
 * Published on `blockdev:nbd:unfit` when what answers in the place of a server that went away cannot be used, once for each
 * reason: operations go on waiting.
 */
export interface NbdUnfitEvent {
  /** The socket of the server, or `host:port`. */
  readonly path: string;
  /** Empty for the default export of the server. */
  readonly exportName: string;
  /** Why, for people. */
  readonly reason: string;
  /** Requests that wait for it. */
  readonly inFlight: number;
}

/** Published on `blockdev:nbd:restored` when a server that went away is back and of use. */
export interface NbdRestoredEvent {
  /** The socket of the server, or `host:port`. */
  readonly path: string;
  /** Empty for the default export of the server. */
  readonly exportName: string;
  /** Milliseconds that it was away. */
  readonly awayMs: number;
  /** Writes that it had acknowledged and not flushed, and that were sent to it again. */
  readonly resent: number;
  /** Some of those are gone all the same: the next flush fails. */
  readonly lostWrites: boolean;
}

/**
 * Published on `blockdev:nbd:unkept` when the file for unflushed writes cannot be used: they outlive the death of the
 * server, and not that of this process.
 */
export interface NbdUnkeptEvent {
  /** The file. */
  readonly path: string;
  /** The socket of the server, or `host:port`. */
  readonly socket: string;
  /** Why, for people. */
  readonly reason: string;
}

/**
 * Published on `blockdev:nbd:dropped` when writes that a process before has kept, and no flush has covered, are not sent to
 * their image: somebody else has written it since, the path is another image now, the file that they were in is damaged, or
 * the server refuses them.
 */
export interface NbdDroppedEvent {
  /** The file that they were kept in. */
  readonly path: string;
  /** The socket of the server, or `host:port`. */
  readonly socket: string;
  /** Of memory that they took, or of the image that the server refuses; undefined for a file that is damaged. */
  readonly bytes?: number | undefined;
  /** Why, for people. */
  readonly reason: string;
}

/** Published on `blockdev:image:odd-size` when an image does not end with a sector, once for each such size. */
export interface OddSize {
  /** The image: the path of a file or device, or words that say which NBD export it is. */
  readonly path: string;
  /** Bytes of the image. */
  readonly size: number;
  /** Bytes that are served: whole sectors. */
  readonly served: number;
  /** Bytes. */
  readonly sectorSize: number;
}

/** Published on `blockdev:lock:unavailable` when an image that should be locked cannot be, and is served without. */
export interface LockUnavailable {
  /** The image, as it was named when it was opened. */
  readonly path: string;
  /** Why, for people. */
  readonly reason: string;
}

/** Published on `blockdev:image:unquiet` when an image is not opened yet, since requests of an earlier process are in flight. */
export interface UnquietImage {
  /** The image, as it was named when it was opened. */
  readonly path: string;
  /** The disk that the process served and that the image is opened for. */
  readonly disk: string;
}

const unquietImages = channel('blockdev:image:unquiet');

export function reportUnquiet(message: UnquietImage): void {
  if (unquietImages.hasSubscribers) unquietImages.publish(message);
}

const unavailableLocks = channel('blockdev:lock:unavailable');

export function reportLockUnavailable(message: LockUnavailable): void {
  if (unavailableLocks.hasSubscribers) unavailableLocks.publish(message);
}

const fallbacks = channel('blockdev:engine:fallback');

const oddSizes = channel('blockdev:image:odd-size');

export function reportFallback(message: EngineFallback): void {
  if (fallbacks.hasSubscribers) fallbacks.publish(message);
}

export const nbdLostChannel = channel('blockdev:nbd:lost');
export const nbdRestoredChannel = channel('blockdev:nbd:restored');
const unfit = channel('blockdev:nbd:unfit');
const unkept = channel('blockdev:nbd:unkept');
const dropped = channel('blockdev:nbd:dropped');

export function reportUnfit(message: NbdUnfitEvent): void {
  if (unfit.hasSubscribers) unfit.publish(message);
}

export function reportUnkept(message: NbdUnkeptEvent): void {
  if (unkept.hasSubscribers) unkept.publish(message);
}

export function reportDropped(message: NbdDroppedEvent): void {
  if (dropped.hasSubscribers) dropped.publish(message);
}

export function reportOddSize(message: OddSize): void {
  if (oddSizes.hasSubscribers) oddSizes.publish(message);
}
