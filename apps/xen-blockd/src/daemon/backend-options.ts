import type { XenBlockBackendOptions } from '@xenpv/xen-block';
import type { ImageOpenerOptions } from '../images/image-opener.js';
import { onErrorPolicy } from './config/on-error.js';
import { type Config, DEFAULTS } from './config.js';

/** Threads, the way of the data, limits: what the configuration may leave to the backend. */
export type BackendOptions = Pick<
  XenBlockBackendOptions,
  | 'threads'
  | 'dataPath'
  | 'persistentPages'
  | 'pollMicroseconds'
  | 'sectorSize'
  | 'journalDirectory'
  | 'limits'
  | 'onError'
  | 'stallMs'
  | 'stopTimeoutMs'
>;

/** Which images are opened, and how. */
export type ImageOptions = Omit<ImageOpenerOptions, 'log'>;

/** The configuration's keys in the backend's words; those that are not set are undefined. */
export function backendOptions(config: Config): BackendOptions {
  return {
    threads: config.threads,
    dataPath: config.transfer,
    persistentPages: config['persistent-pages'],
    pollMicroseconds: config['poll-microseconds'],
    sectorSize: config['sector-size'],
    journalDirectory: config['journal-directory'] || undefined,
    onError: onErrorPolicy(config['on-error-for'] ?? {}, config['on-error'] ?? 'report'),
    stallMs: config['stall-seconds'] === undefined ? undefined : config['stall-seconds'] * 1000,
    // Without a journal what is left is lost: it is waited for as long as a stop may take.
    stopTimeoutMs: config['journal-directory'] ? stopMilliseconds(config) : undefined,
    limits: {
      maxQueues: config['max-queues'],
      maxRingPageOrder: config['max-ring-page-order'],
      maxIndirectSegments: config['max-indirect-segments'],
    },
  };
}

/** Which images are opened, and how, in the words of the image opener. */
export function imageOptions(config: Config): ImageOptions {
  return {
    directories: config['image-directories'],
    backingFiles: config['backing-files'],
    helperUser: config['helper-user'],
    engine: config.engine,
    direct: config.direct,
    nbdDirectory: config['nbd-directory'] || undefined,
    helperDirectory: config['helper-directory'],
    reconnectSeconds: config['reconnect-seconds'],
    unflushedMebibytes: config['unflushed-mebibytes'],
  };
}

/** How long requests in flight are waited for after SIGTERM. */
export function stopMilliseconds(config: Config): number {
  return (config['stop-seconds'] ?? DEFAULTS['stop-seconds']) * 1000;
}
