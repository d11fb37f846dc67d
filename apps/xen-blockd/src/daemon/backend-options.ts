import type { XenBlockBackendOptions } from '@xenpv/xen-block';
import type { Config } from './config.js';

/** Threads, the way of the data, limits: what the configuration may leave to the backend. */
export type BackendOptions = Pick<
  XenBlockBackendOptions,
  'threads' | 'transfer' | 'persistentPages' | 'pollMicroseconds' | 'sectorSize' | 'journalDirectory' | 'limits'
>;

/** The configuration's keys in the backend's words; those that are not set are undefined. */
export function backendOptions(config: Config): BackendOptions {
  return {
    threads: config.threads,
    transfer: config.transfer,
    persistentPages: config['persistent-pages'],
    pollMicroseconds: config['poll-microseconds'],
    sectorSize: config['sector-size'],
    journalDirectory: config['journal-directory'] || undefined,
    limits: {
      maxQueues: config['max-queues'],
      maxRingPageOrder: config['max-ring-page-order'],
      maxIndirectSegments: config['max-indirect-segments'],
    },
  };
}
