import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { EngineFallback, LockUnavailable } from '@xenpv/blockdev';
import type {
  DeviceConnectedEvent,
  DeviceMediumEvent,
  DeviceResizedEvent,
  JournalFailedEvent,
  RequestRefusedEvent,
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

/** Writes the events that the libraries publish to the log, until it is disposed of. */
export function logEvents(logger: Logger): Disposable {
  const limit = new RateLimit(GUEST_LINES, GUEST_INTERVAL_MS);
  const listeners: Record<string, (event: never) => void> = {
    'xenbus:device:added': ({ address }: DeviceEvent) => {
      logger.debug({ device: deviceName(address) }, 'device found');
    },
    'xenbus:device:removed': ({ address }: DeviceEvent) => {
      for (const kind of ['state', 'error', 'connected', 'refused']) limit.forget(`${kind} ${deviceName(address)}`);
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
    'blockdev:engine:fallback': ({ path, wanted, used, reason }: EngineFallback) => {
      logger.warn({ path, reason }, `no ${wanted}, using ${used}`);
    },
    'blockdev:lock:unavailable': ({ path, reason }: LockUnavailable) => {
      const admitted = limit.admit(`lock ${path}`);
      if (admitted) logger.warn({ path, reason, ...keptBack(admitted) }, 'the image is served without a lock');
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

/** As a field of a log line, which leaves out what is undefined. */
function keptBack({ suppressed }: { suppressed: number }): { suppressed: number | undefined } {
  return { suppressed: suppressed > 0 ? suppressed : undefined };
}
