import { channel } from 'node:diagnostics_channel';
import type { DeviceAddress, HeldDevice } from '@xenpv/xenbus';
import type { DiskConfig, DiskGeometry, DiskStop } from './disk-description.js';
import type { RateLimits } from './rate-limits.js';

/** Published on `xen-block:request:refused`, at most once a second for each ring and reason. */
export interface RequestRefusedEvent {
  /** The disk whose frontend sent them. */
  readonly address: DeviceAddress;
  /** In words. */
  readonly reason: string;
  /** How many since the last time. */
  readonly count: number;
}

/** Published on `xen-block:storage:error`, at most once a second for each ring, whatever becomes of the requests. */
export interface StorageErrorEvent {
  /** The disk whose requests failed. */
  readonly address: DeviceAddress;
  /** Of the last request that failed: `read`, `write`, `barrier`, `flush` or `discard`. */
  readonly operation: string;
  /** The errno's name: `ENOSPC`. */
  readonly errno: string;
  /** Bytes in the image. */
  readonly offset: number;
  /** Bytes; 0 for a flush of no data. */
  readonly length: number;
  /** How many failed since the last time. */
  readonly count: number;
}

/** Published on `xen-block:device:stopped`: by its policy for errors the disk takes no more requests, see OnError. */
export interface DeviceStoppedEvent {
  /** The disk, all of whose rings are stopped. */
  readonly address: DeviceAddress;
  /** The request that the storage failed, and when. */
  readonly stop: DiskStop;
}

/** Published on `xen-block:device:resumed`: the disk is not stopped any more. */
export interface DeviceResumedEvent {
  /** The disk that was stopped. */
  readonly address: DeviceAddress;
  /**
   * `resume`: kept requests are done again. `disconnect`: the connection is over, and they have failed. `leave`: they are
   * left to the next process.
   */
  readonly by: 'resume' | 'disconnect' | 'leave';
}

/**
 * Published on `xen-block:device:ignored`: a key of a disk has a value that means nothing. It is taken for absent;
 * `paused` is taken for a pause from now on.
 */
export interface DeviceIgnoredEvent {
  /** The disk that the key is of. */
  readonly address: DeviceAddress;
  /** Of the key. */
  readonly path: string;
  /** As it was found. */
  readonly value: string;
  /** What it may be. */
  readonly expected: string;
}

/** Published on `xen-block:storage:stalled` when a request waits for long, and at growing intervals as long as it does. */
export interface StorageStalledEvent {
  /** The disk whose image does not answer. */
  readonly address: DeviceAddress;
  /** Milliseconds that the oldest request is in flight. */
  readonly ageMs: number;
  /** Requests in flight. */
  readonly inFlight: number;
}

/** Published on `xen-block:storage:recovered`: what was told to be stalled is answered. */
export interface StorageRecoveredEvent {
  /** The disk that was told to be stalled. */
  readonly address: DeviceAddress;
  /** Milliseconds: the greatest age that was seen. */
  readonly ageMs: number;
}

/** Published on `xen-block:device:prepared`, when the image is open and the device can be offered. */
export interface DevicePreparedEvent {
  /** The disk whose image is open, or the drive that is empty. */
  readonly address: DeviceAddress;
  /** What the keys in its backend directory say. */
  readonly config: DiskConfig;
  /** The storage engine, or undefined for an empty drive. */
  readonly engine: string | undefined;
  /** What its requests are going to be checked against; no sectors for an empty drive. */
  readonly geometry: DiskGeometry;
}

/** Published on `xen-block:device:disconnected` and `xen-block:device:closed`. */
export interface BlockDeviceEvent {
  /** The disk whose rings were detached, or which is closed. */
  readonly address: DeviceAddress;
}

/** Published on `xen-block:device:connected`. */
export interface DeviceConnectedEvent {
  /** The disk whose rings are attached. */
  readonly address: DeviceAddress;
  /** The layout of its requests, from the frontend's `protocol`: `x86_32`, `x86_64` or `arm`. */
  readonly abi: string;
  /** Rings: the frontend's `multi-queue-num-queues`, or 1 without that key. */
  readonly queues: number;
  /** Slots of each ring. */
  readonly ringSlots: number;
  /** Whether grants stay mapped: only if both sides have written 1 to `feature-persistent`. */
  readonly persistent: boolean;
  /** An earlier process served this very connection. */
  readonly adopted: boolean;
  /** Requests that the earlier process took and did not answer: they are carried out again. */
  readonly recovered: number;
}

/**
 * Published on `xen-block:request:gave-up`, at most once a second for each ring: a request of an earlier process is answered
 * with an error, since two processes have died while their own code carried it out again.
 */
export interface RequestGaveUpEvent {
  /** The disk whose frontend gets the error. */
  readonly address: DeviceAddress;
  /** `read`, `write`, `barrier`, `flush` or `discard`. */
  readonly operation: string;
  /** As the guest wrote it, in 512-byte units. */
  readonly sector: number;
  /** How many since the last time. */
  readonly count: number;
}

/**
 * Published on `xen-block:journal:dropped`: a ring is taken over without what its journal should tell, since the ring is
 * another connection's or has no request that is not answered, or since somebody said so.
 */
export interface JournalDroppedEvent {
  /** The disk that the ring is of. */
  readonly address: DeviceAddress;
  /** In words. */
  readonly reason: string;
}

/** Published on `xen-block:journal:failed`: a ring is served whose requests in flight are lost if this process is. */
export interface JournalFailedEvent {
  /** The disk, which is served all the same. */
  readonly address: DeviceAddress;
  /** Undefined: it is which image the disk has that cannot be noted. */
  readonly queue: number | undefined;
  /** A XenBlockError with the code `ERR_JOURNAL`. */
  readonly error: Error;
}

/** Published on `xen-block:journal:made`: what `xen-block:journal:failed` told of is over, and the disk is noted. */
export interface JournalMadeEvent {
  /** The disk. */
  readonly address: DeviceAddress;
  /** Undefined: it is which image the disk has that is noted now. */
  readonly queue: number | undefined;
}

/** Published on `xen-block:device:left`: the backend closed before all requests of a disk were answered. */
export interface DeviceLeftEvent {
  /** The disk that was left behind. */
  readonly address: DeviceAddress;
  /** Requests taken and not answered. */
  readonly inFlight: number;
  /** Whether a journal has them, so that the next process carries them out. */
  readonly noted: boolean;
}

/** Published on `xen-block:device:limited` when a disk gets other limits, or its guest does. */
export interface DeviceLimitedEvent {
  /** A disk that has other limits now; `guest` is in force for the others of its guest too. */
  readonly address: DeviceAddress;
  /** Of this disk alone; what is undefined is not limited. */
  readonly disk: RateLimits;
  /** Of all disks of the guest together; likewise. */
  readonly guest: RateLimits;
}

/**
 * Published on `xen-block:device:abandoned`: a frontend is gone, and the storage did not end its requests in time. They
 * are waited for no longer; the frontend has its ring back.
 */
export interface DeviceAbandonedEvent {
  /** The disk whose frontend is gone. */
  readonly address: DeviceAddress;
  /** Requests that the storage has still. */
  readonly inFlight: number;
}

/**
 * Published on `xen-block:image:awaited`, once for each code of errors: a guest has come from another host and waits, since its image
 * cannot be had yet. It is tried again.
 */
export interface ImageAwaitedEvent extends HeldDevice {
  /** The disk whose guest waits. */
  readonly address: DeviceAddress;
  /** What the last try threw; `reason` is its message. */
  readonly error: unknown;
}

/** Published on `xen-block:image:wait-ended`, after `xen-block:image:awaited`. */
export interface ImageWaitEndedEvent {
  /** The disk whose guest waited. */
  readonly address: DeviceAddress;
  /** `taken`: the image is open, and this disk's. `given-up`: the guest or its toolstack waits no more, or this process ends. */
  readonly by: 'taken' | 'given-up';
  /** How long the guest waited, in milliseconds. */
  readonly waitedMs: number;
}

/** Published on `xen-block:device:resized`. */
export interface DeviceResizedEvent {
  /** The disk whose image has another size. */
  readonly address: DeviceAddress;
  /** 512-byte sectors. */
  readonly from: number;
  /** 512-byte sectors, as the key `sectors` counts them. */
  readonly to: number;
}

/** Published on `xen-block:device:medium` when a drive gets another medium, or none. */
export interface DeviceMediumEvent {
  /** The cdrom drive. */
  readonly address: DeviceAddress;
  /** The medium as `params` names it, without the format; empty for none. */
  readonly target: string;
  /** Why the medium could not be opened, so that the drive is empty; absent if it was opened. */
  readonly error?: unknown;
}

/**
 * Published on `xen-block:ring:overlooked`: a ring had requests, or requests of it could have gone on, and nobody looked at
 * it for a second; it is looked at now. Either its frontend sent no event, or an event was lost, or this package has a
 * fault. At most once a second for each ring. All indices are those of io/ring.h, u32.
 */
export interface RingOverlookedEvent {
  /** The ring: `qdisk-5-51712/0`. */
  readonly ring: string;
  /** req_prod, as the frontend wrote it. */
  readonly requestsProduced: number;
  /** Our req_cons: the index of the first request that was not taken. */
  readonly requestsConsumed: number;
  /** req_event: the index of the request that the frontend was to send an event with. */
  readonly requestEvent: number;
  /** rsp_prod, as we wrote it last. */
  readonly responsesProduced: number;
  /** Requests taken and not answered. */
  readonly inFlight: number;
  /** Whether the data plane believed that it looks at the ring. */
  readonly awake: boolean;
}

/**
 * Published on `xen-block:plane:failed`, at most once a second: an exception within a data plane, where none may be. What it
 * interrupted is done again after a moment.
 */
export interface PlaneFailedEvent {
  /** The ring: `qdisk-5-51712/0`; or undefined if it was no ring's. */
  readonly ring: string | undefined;
  /** What was thrown; of a worker thread a XenBlockError with its code and text. */
  readonly error: unknown;
  /** How many since the last time. */
  readonly count: number;
}

/**
 * Published on `xen-block:plane:rested` on the thread that serves the rings, each time that a data plane has served all of
 * them for now: for tests and fuzzers.
 */
export interface PlaneRestedEvent {
  /** Looks whether everything that must hold now does; what does not, in words, or undefined. It takes some time. */
  broken(): string | undefined;
}

/**
 * Published on `xen-block:request:pulled`, `xen-block:request:queued`, `xen-block:request:completed` and
 * `xen-block:request:pushed` on the thread that serves the ring, for each request that passes that point.
 */
export interface RequestEvent {
  /** The ring: `qdisk-5-51712/0`. */
  readonly ring: string;
  /** The frontend's id. */
  readonly id: bigint;
  /** A BlkifOp, for an indirect request the inner one. At `pulled`, and of a refused request, as the guest wrote it. */
  readonly operation: number;
  /** Bytes in the image, where `length` is above 0; otherwise what the guest wrote, or 0. */
  readonly offset: number;
  /** Bytes; 0 where the request has no range, before that was checked, and when the request was refused. */
  readonly length: number;
  /** BlkifStatus; OKAY as long as nothing went wrong. */
  readonly status: number;
}

export const refusedChannel = channel('xen-block:request:refused');
export const storageErrorChannel = channel('xen-block:storage:error');
export const stoppedChannel = channel('xen-block:device:stopped');
export const resumedChannel = channel('xen-block:device:resumed');
export const ignoredChannel = channel('xen-block:device:ignored');
export const stalledChannel = channel('xen-block:storage:stalled');
export const recoveredChannel = channel('xen-block:storage:recovered');
export const preparedChannel = channel('xen-block:device:prepared');
export const disconnectedChannel = channel('xen-block:device:disconnected');
export const closedChannel = channel('xen-block:device:closed');
export const connectedChannel = channel('xen-block:device:connected');
export const journalFailedChannel = channel('xen-block:journal:failed');
export const journalMadeChannel = channel('xen-block:journal:made');
export const leftChannel = channel('xen-block:device:left');
export const abandonedChannel = channel('xen-block:device:abandoned');
export const journalDroppedChannel = channel('xen-block:journal:dropped');
export const gaveUpChannel = channel('xen-block:request:gave-up');
export const limitedChannel = channel('xen-block:device:limited');
export const awaitedChannel = channel('xen-block:image:awaited');
export const waitEndedChannel = channel('xen-block:image:wait-ended');
export const resizedChannel = channel('xen-block:device:resized');
export const mediumChannel = channel('xen-block:device:medium');
export const overlookedChannel = channel('xen-block:ring:overlooked');
export const failedChannel = channel('xen-block:plane:failed');
export const restedChannel = channel('xen-block:plane:rested');

/** The four points of a request's way. */
export const requestChannels = {
  pulled: channel('xen-block:request:pulled'),
  queued: channel('xen-block:request:queued'),
  completed: channel('xen-block:request:completed'),
  pushed: channel('xen-block:request:pushed'),
} as const;
