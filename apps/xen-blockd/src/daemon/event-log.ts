import type {
  EngineFallback,
  LockUnavailable,
  NbdDroppedEvent,
  NbdLostEvent,
  NbdRestoredEvent,
  NbdUnfitEvent,
  NbdUnkeptEvent,
  OddSize,
  UnquietImage,
} from '@xenpv/blockdev';
import type {
  DeviceAbandonedEvent,
  DeviceConnectedEvent,
  DeviceIgnoredEvent,
  DeviceLeftEvent,
  DeviceLimitedEvent,
  DeviceMediumEvent,
  DeviceResizedEvent,
  DeviceResumedEvent,
  DeviceStoppedEvent,
  ImageAwaitedEvent,
  ImageWaitEndedEvent,
  JournalDroppedEvent,
  JournalFailedEvent,
  JournalMadeEvent,
  PlaneFailedEvent,
  RequestGaveUpEvent,
  RequestRefusedEvent,
  RingOverlookedEvent,
  StorageErrorEvent,
  StorageRecoveredEvent,
  StorageStalledEvent,
} from '@xenpv/xen-block';
import { formatRateLimits } from '@xenpv/xen-block';
import {
  type DeviceErrorEvent,
  type DeviceEvent,
  type DeviceHeldEvent,
  type DeviceOrphanedEvent,
  type DeviceStateEvent,
  deviceName,
  errorMessage,
  type HoldEndedEvent,
  stateName,
} from '@xenpv/xenbus';
import type { ConnectionLostEvent, ConnectionRestoredEvent } from '@xenpv/xenstore';
import { errorCode } from '../errors.js';
import type { LimitedLine, LimitedLog } from '../log/limited-log.js';
import { subscriptions } from './observed/subscriptions.js';

/** What a line says, and about what; lines of one channel about one device or image share a limit. */
interface Line extends LimitedLine {
  readonly about?: string | undefined;
}

const OVERLOOKED = 'a ring had requests, and nobody looked at it for a second: it is looked at now';
const FAILED = 'a fault of xen-blockd while it served rings, please report it; going on';

const ORPHANED = 'xenstored has lost it with the whole tree, and its guest lives: served on';

const HOLD_ENDED: Record<HoldEndedEvent['by'], string> = {
  served: 'held no more: served again',
  ended: 'held no more: the guest or the toolstack ended it',
  left: 'still held: left to the next process',
};

const LEFT = 'its requests in flight are left to the next process';
const LOST = 'its requests in flight are lost: there is no journal-directory';

const ABANDONED =
  'its guest is gone and its storage hangs: the guest has its ring back, requests are left to the storage';

const UNQUIET = 'not opened yet: the kernel still has requests of an earlier process for it';

const GAVE_UP = 'a request has ended two processes: it is answered with an error, please report it';

const WAIT_ENDED: Record<ImageWaitEndedEvent['by'], string> = {
  taken: 'its guest has waited for the image, which is open now',
  'given-up': 'its guest waits for the image no more',
};

/** What a journal has: of a queue, or of the disk. */
const notedOf = (queue: number | undefined) =>
  queue === undefined ? 'which image it has is' : 'its requests in flight are';

const RESUMED: Record<DeviceResumedEvent['by'], string> = {
  resume: 'resumed',
  leave: 'stopped: its requests are left to the next process',
  disconnect: 'stopped no more: its requests have failed',
};

/**
 * A line for each event. A guest can cause most of them, so that all go through the limit, whatever is added here. Keys
 * are the channels.
 */
const LINES: Record<string, (event: never) => Line> = {
  'xenbus:device:added': ({ address }: DeviceEvent) => about(address, { level: 'debug', message: 'device found' }),
  'xenbus:device:removed': ({ address }: DeviceEvent) => about(address, { level: 'info', message: 'device gone' }),
  'xenbus:device:state': ({ address, to }: DeviceStateEvent) =>
    about(address, { level: 'info', message: stateName(to) }),
  'xenbus:device:error': ({ address, error }: DeviceErrorEvent) =>
    about(address, { level: 'error', message: errorMessage(error), fields: { code: errorCode(error) } }),
  'xenbus:device:held': ({ address, reason, error }: DeviceHeldEvent) =>
    about(address, {
      level: 'error',
      message: `held, its guest waits; tried again: ${reason}`,
      fields: { code: errorCode(error) },
    }),
  'xenbus:device:hold-ended': ({ address, by, heldMs, attempts }: HoldEndedEvent) =>
    about(address, {
      level: by === 'left' ? 'warn' : 'info',
      message: HOLD_ENDED[by],
      fields: { seconds: seconds(heldMs), attempts },
    }),
  'xenbus:device:orphaned': ({ address }: DeviceOrphanedEvent) => about(address, { level: 'error', message: ORPHANED }),
  'xenbus:device:known-again': ({ address }: DeviceEvent) =>
    about(address, { level: 'info', message: 'xenstored knows it again' }),
  'xen-block:device:connected': ({ address, abi, queues, ringSlots, adopted, recovered }: DeviceConnectedEvent) =>
    about(address, { level: 'info', message: 'serving', fields: { abi, queues, ringSlots, adopted, recovered } }),
  'xen-block:image:awaited': ({ address, reason, error }: ImageAwaitedEvent) =>
    about(address, {
      level: 'warn',
      message: `its guest has come from another host and waits for the image; tried again: ${reason}`,
      fields: { code: errorCode(error) },
    }),
  'xen-block:image:wait-ended': ({ address, by, waitedMs }: ImageWaitEndedEvent) =>
    about(address, { level: 'info', message: WAIT_ENDED[by], fields: { seconds: seconds(waitedMs) } }),
  'xen-block:journal:dropped': ({ address, reason }: JournalDroppedEvent) =>
    about(address, { level: 'warn', message: `taken over without its journal: ${reason}` }),
  'xen-block:request:gave-up': ({ address, operation, sector, count }: RequestGaveUpEvent) =>
    about(address, { level: 'error', message: GAVE_UP, fields: { operation, sector, count } }),
  'xen-block:device:left': ({ address, inFlight, noted }: DeviceLeftEvent) =>
    about(address, { level: noted ? 'warn' : 'error', message: noted ? LEFT : LOST, fields: { inFlight } }),
  'xen-block:device:abandoned': ({ address, inFlight }: DeviceAbandonedEvent) =>
    about(address, { level: 'warn', message: ABANDONED, fields: { inFlight } }),
  'xen-block:journal:failed': ({ address, queue, error }: JournalFailedEvent) =>
    about(address, { level: 'error', message: `${notedOf(queue)} not noted: ${errorMessage(error)}` }),
  'xen-block:journal:made': ({ address, queue }: JournalMadeEvent) =>
    about(address, { level: 'info', message: `${notedOf(queue)} noted again` }),
  'xen-block:device:limited': ({ address, disk, guest }: DeviceLimitedEvent) =>
    about(address, {
      level: 'info',
      message: 'its limits are others now',
      fields: { limits: formatRateLimits(disk), guestLimits: formatRateLimits(guest) },
    }),
  'xen-block:device:resized': ({ address, from, to }: DeviceResizedEvent) =>
    about(address, { level: 'info', message: 'resized', fields: { from, to } }),
  'xen-block:device:medium': ({ address, target, error }: DeviceMediumEvent) =>
    about(address, {
      level: error === undefined ? 'info' : 'error',
      message: error === undefined ? 'another medium' : errorMessage(error),
      fields: { target },
    }),
  'xen-block:request:refused': ({ address, reason, count }: RequestRefusedEvent) =>
    about(address, { level: 'warn', message: `request refused: ${reason}`, fields: { count } }),
  'xen-block:storage:error': ({ address, operation, errno, offset, length, count }: StorageErrorEvent) =>
    about(address, { level: 'error', message: 'storage error', fields: { operation, errno, offset, length, count } }),
  'xen-block:device:stopped': ({ address, stop }: DeviceStoppedEvent) =>
    about(address, {
      level: 'error',
      message: `stopped by a storage error; mend it, then: xen-blockd resume ${deviceName(address)}`,
      fields: { operation: stop.operation, errno: stop.errno },
    }),
  'xen-block:device:resumed': ({ address, by }: DeviceResumedEvent) =>
    about(address, { level: by === 'disconnect' ? 'warn' : 'info', message: RESUMED[by] }),
  'xen-block:device:ignored': ({ address, path, value, expected }: DeviceIgnoredEvent) =>
    about(address, { level: 'warn', message: 'key ignored: no such value', fields: { path, value, expected } }),
  'xen-block:storage:stalled': ({ address, ageMs, inFlight }: StorageStalledEvent) =>
    about(address, {
      level: 'warn',
      message: 'the storage hangs: its oldest request waits',
      fields: { seconds: seconds(ageMs), inFlight },
    }),
  'xen-block:storage:recovered': ({ address, ageMs }: StorageRecoveredEvent) =>
    about(address, { level: 'info', message: 'the storage hangs no more', fields: { seconds: seconds(ageMs) } }),
  'xen-block:ring:overlooked': ({ ring, ...indices }: RingOverlookedEvent) => {
    const [device] = ring.split('/');
    return { about: device, level: 'warn', message: OVERLOOKED, fields: { device, ring, ...indices } };
  },
  'xen-block:plane:failed': ({ ring, error, count }: PlaneFailedEvent) => {
    const device = ring?.split('/')[0];
    const message = `${FAILED}: ${errorMessage(error)}`;
    return { about: device, level: 'error', message, fields: { device, ring, count } };
  },
  'blockdev:nbd:lost': ({ path, exportName, reason, inFlight }: NbdLostEvent) => ({
    about: path,
    level: 'error',
    message: 'lost the NBD server',
    fields: { path, export: exportName, reason, inFlight },
  }),
  'blockdev:nbd:unfit': ({ path, exportName, reason, inFlight }: NbdUnfitEvent) => ({
    about: path,
    level: 'error',
    message: 'the NBD server is there, and cannot be used',
    fields: { path, export: exportName, reason, inFlight },
  }),
  'blockdev:nbd:restored': ({ path, exportName, awayMs, resent, lostWrites }: NbdRestoredEvent) => ({
    about: path,
    level: lostWrites ? 'error' : 'info',
    message: lostWrites ? 'the NBD server is back, without writes that were not flushed' : 'the NBD server is back',
    fields: { path, export: exportName, seconds: seconds(awayMs), resent },
  }),
  'blockdev:nbd:unkept': ({ path, socket, reason }: NbdUnkeptEvent) => ({
    about: path,
    level: 'warn',
    message: 'unflushed writes are kept by this process only',
    fields: { path, socket, reason },
  }),
  'blockdev:nbd:dropped': ({ path, socket, bytes, reason }: NbdDroppedEvent) => ({
    about: path,
    level: 'error',
    message: 'writes of an earlier process that were not flushed are dropped',
    fields: { path, socket, bytes, reason },
  }),
  'blockdev:image:odd-size': ({ path, size, served, sectorSize }: OddSize) => ({
    about: path,
    level: 'warn',
    message: 'the image does not end with a sector, its whole sectors are served',
    fields: { path, size, served, sectorSize },
  }),
  'blockdev:image:unquiet': ({ path, disk }: UnquietImage) => ({
    about: path,
    level: 'warn',
    message: UNQUIET,
    fields: { path, disk },
  }),
  'blockdev:lock:unavailable': ({ path, reason }: LockUnavailable) => ({
    about: path,
    level: 'warn',
    message: 'the image is served without a lock',
    fields: { path, reason },
  }),
  'blockdev:engine:fallback': ({ path, wanted, used, reason }: EngineFallback) => ({
    about: path,
    level: 'warn',
    message: `no ${wanted}, using ${used}`,
    fields: { path, reason },
  }),
  'xenstore:connection:lost': ({ description, error }: ConnectionLostEvent) => ({
    level: 'error',
    message: 'lost the connection to xenstored',
    fields: { xenstored: description, reason: errorMessage(error) },
  }),
  'xenstore:connection:restored': ({ description }: ConnectionRestoredEvent) => ({
    level: 'info',
    message: 'connected to xenstored again',
    fields: { xenstored: description },
  }),
};

/** The channels that the log has lines of. */
export const LOGGED_CHANNELS = Object.keys(LINES);

/** Writes the events that the libraries publish to the log, until it is disposed of. */
export function logEvents(log: LimitedLog): Disposable {
  const listeners = Object.entries(LINES).map(([channel, lineOf]) => {
    const listener = (event: never) => {
      const line = lineOf(event);
      log.write(channel, line.about, line);
      if (channel === 'xenbus:device:removed' && line.about !== undefined) log.forget(line.about);
    };
    return [channel, listener] as const;
  });
  return subscriptions(Object.fromEntries(listeners));
}

function seconds(milliseconds: number): number {
  return Math.round(milliseconds / 100) / 10;
}

function about(address: DeviceEvent['address'] | undefined, { level, message, fields }: LimitedLine): Line {
  const device = address && deviceName(address);
  return { about: device, level, message, fields: { device, ...fields } };
}
