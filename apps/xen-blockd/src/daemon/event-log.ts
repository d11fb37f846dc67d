import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { EngineFallback, NbdLostEvent, NbdRestoredEvent } from '@xenpv/blockdev';
import type {
  DeviceConnectedEvent,
  DeviceIgnoredEvent,
  DeviceMediumEvent,
  DeviceResizedEvent,
  DeviceResumedEvent,
  DeviceStoppedEvent,
  JournalFailedEvent,
  RequestRefusedEvent,
  StorageErrorEvent,
  StorageRecoveredEvent,
  StorageStalledEvent,
} from '@xenpv/xen-block';
import {
  type DeviceErrorEvent,
  type DeviceEvent,
  type DeviceStateEvent,
  deviceName,
  errorMessage,
  stateName,
} from '@xenpv/xenbus';
import type { ConnectionLostEvent, ConnectionRestoredEvent } from '@xenpv/xenstore';
import type { Logger } from 'pino';
import { errorCode } from '../errors.js';
import { RateLimit } from './rate-limit.js';

/** Lines that a guest can cause again and again: so many in each interval, the others are counted. */
const GUEST_LINES = 5;
const GUEST_INTERVAL_MS = 60_000;

/** Kinds of lines that are limited for each disk. */
const KINDS = ['state', 'error', 'connected', 'refused', 'storage', 'stopped', 'stalled', 'ignored'];

/** Writes the events that the libraries publish to the log, until it is disposed of. */
export function logEvents(logger: Logger): Disposable {
  const limit = new RateLimit(GUEST_LINES, GUEST_INTERVAL_MS);
  const listeners: Record<string, (event: never) => void> = {
    'xenbus:device:added': ({ address }: DeviceEvent) => {
      logger.debug({ device: deviceName(address) }, 'device found');
    },
    'xenbus:device:removed': ({ address }: DeviceEvent) => {
      for (const kind of KINDS) limit.forget(`${kind} ${deviceName(address)}`);
      logger.info({ device: deviceName(address) }, 'device gone');
    },
    'xenbus:device:state': ({ address, to }: DeviceStateEvent) => {
      const device = deviceName(address);
      const admitted = limit.admit(`state ${device}`);
      if (admitted) logger.info({ device, ...keptBack(admitted) }, stateName(to));
    },
    'xenbus:device:error': ({ address, error }: DeviceErrorEvent) => {
      const device = address && deviceName(address);
      const admitted = limit.admit(`error ${device}`);
      if (!admitted) return;
      logger.error({ device, code: errorCode(error), ...keptBack(admitted) }, errorMessage(error));
    },
    'xen-block:device:connected': ({ address, abi, queues, ringSlots, adopted }: DeviceConnectedEvent) => {
      const device = deviceName(address);
      if (limit.admit(`connected ${device}`)) logger.info({ device, abi, queues, ringSlots, adopted }, 'serving');
    },
    'xen-block:journal:failed': ({ address, error }: JournalFailedEvent) => {
      const device = deviceName(address);
      logger.error({ device }, `its requests in flight are not noted: ${errorMessage(error)}`);
    },
    'xen-block:device:resized': ({ address, from, to }: DeviceResizedEvent) => {
      logger.info({ device: deviceName(address), from, to }, 'resized');
    },
    'xen-block:device:medium': ({ address, target, error }: DeviceMediumEvent) => {
      const device = deviceName(address);
      if (error === undefined) logger.info({ device, target }, 'another medium');
      else logger.error({ device, target }, errorMessage(error));
    },
    'xen-block:request:refused': ({ address, reason, count }: RequestRefusedEvent) => {
      const device = deviceName(address);
      const admitted = limit.admit(`refused ${device}`);
      if (admitted) logger.warn({ device, count, ...keptBack(admitted) }, `request refused: ${reason}`);
    },
    'xen-block:storage:error': ({ address, ...error }: StorageErrorEvent) => {
      const device = deviceName(address);
      const admitted = limit.admit(`storage ${device}`);
      if (!admitted) return;
      const { operation, errno, offset, length, count } = error;
      logger.error({ device, operation, errno, offset, length, count, ...keptBack(admitted) }, 'storage error');
    },
    'xen-block:device:stopped': ({ address, stop }: DeviceStoppedEvent) => {
      const device = deviceName(address);
      const admitted = limit.admit(`stopped ${device}`);
      if (!admitted) return;
      const { operation, errno } = stop;
      const advice = `stopped by a storage error; mend it, then: xen-blockd resume ${device}`;
      logger.error({ device, operation, errno, ...keptBack(admitted) }, advice);
    },
    'xen-block:device:resumed': ({ address, by }: DeviceResumedEvent) => {
      const device = deviceName(address);
      if (by === 'resume') logger.info({ device }, 'resumed');
      else if (by === 'leave') logger.info({ device }, 'stopped: its requests are left to the next process');
      else if (limit.admit(`stopped ${device}`)) logger.warn({ device }, 'stopped no more: its requests have failed');
    },
    'xen-block:device:ignored': ({ address, path, value, expected }: DeviceIgnoredEvent) => {
      const device = deviceName(address);
      if (limit.admit(`ignored ${device}`))
        logger.warn({ device, path, value, expected }, 'key ignored: no such value');
    },
    'xen-block:storage:stalled': ({ address, ageMs, inFlight }: StorageStalledEvent) => {
      const device = deviceName(address);
      const admitted = limit.admit(`stalled ${device}`);
      if (!admitted) return;
      const fields = { device, seconds: seconds(ageMs), inFlight, ...keptBack(admitted) };
      logger.warn(fields, 'the storage hangs: its oldest request waits');
    },
    'xen-block:storage:recovered': ({ address, ageMs }: StorageRecoveredEvent) => {
      const device = deviceName(address);
      const admitted = limit.admit(`stalled ${device}`);
      if (admitted)
        logger.info({ device, seconds: seconds(ageMs), ...keptBack(admitted) }, 'the storage hangs no more');
    },
    'blockdev:nbd:lost': ({ path, exportName, reason, inFlight }: NbdLostEvent) => {
      const admitted = limit.admit(`nbd ${path} ${exportName}`);
      if (!admitted) return;
      logger.error({ path, export: exportName, reason, inFlight, ...keptBack(admitted) }, 'lost the NBD server');
    },
    'blockdev:nbd:restored': ({ path, exportName, awayMs, lostWrites }: NbdRestoredEvent) => {
      const admitted = limit.admit(`nbd ${path} ${exportName}`);
      if (!admitted) return;
      const fields = { path, export: exportName, seconds: seconds(awayMs), ...keptBack(admitted) };
      if (lostWrites) logger.error(fields, 'the NBD server is back, without writes that were not flushed');
      else logger.info(fields, 'the NBD server is back');
    },
    'blockdev:engine:fallback': ({ path, wanted, used, reason }: EngineFallback) => {
      logger.warn({ path, reason }, `no ${wanted}, using ${used}`);
    },
    'xenstore:connection:lost': ({ description, error }: ConnectionLostEvent) => {
      logger.error({ xenstored: description, reason: errorMessage(error) }, 'lost the connection to xenstored');
    },
    'xenstore:connection:restored': ({ description }: ConnectionRestoredEvent) => {
      logger.info({ xenstored: description }, 'connected to xenstored again');
    },
  };
  const entries = Object.entries(listeners) as [string, (event: unknown) => void][];
  for (const [channel, listener] of entries) subscribe(channel, listener);
  return {
    [Symbol.dispose]() {
      for (const [channel, listener] of entries) unsubscribe(channel, listener);
    },
  };
}

function seconds(milliseconds: number): number {
  return Math.round(milliseconds / 100) / 10;
}

/** As a field of a log line, which leaves out what is undefined. */
function keptBack({ suppressed }: { suppressed: number }): { suppressed: number | undefined } {
  return { suppressed: suppressed > 0 ? suppressed : undefined };
}
