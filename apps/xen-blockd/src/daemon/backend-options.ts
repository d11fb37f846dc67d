import { type ConfiguredLimits, parseRateLimits, type RateLimits, type XenBlockBackendOptions } from '@xenpv/xen-block';
import type { ImageOpenerOptions } from '../images/image-opener.js';
import { byDisk } from './config/by-disk.js';
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
  | 'diskLimits'
  | 'guestLimits'
  | 'stallMs'
  | 'growthMs'
  | 'stopTimeoutMs'
>;

/** Which images are opened, and how. */
export type ImageOptions = Omit<ImageOpenerOptions, 'log' | 'orphans'>;

/** The configuration's keys in the backend's words; those that are not set are undefined. */
export function backendOptions(config: Config): BackendOptions {
  return {
    threads: config.threads,
    dataPath: config.transfer,
    persistentPages: config['persistent-pages'],
    pollMicroseconds: config['poll-microseconds'],
    sectorSize: config['sector-size'],
    journalDirectory: config['journal-directory'] || undefined,
    onError: byDisk(config['on-error-for'] ?? {}, config['on-error'] ?? 'report'),
    ...rateLimits(config),
    stallMs: config['stall-seconds'] === undefined ? undefined : config['stall-seconds'] * 1000,
    growthMs: config['growth-seconds'] === undefined ? undefined : config['growth-seconds'] * 1000,
    // Without a journal what is left is lost: it is waited for as long as a stop may take.
    stopTimeoutMs: config['journal-directory'] ? stopMilliseconds(config) : undefined,
    limits: {
      maxQueues: config['max-queues'],
      maxRingPageOrder: config['max-ring-page-order'],
      maxIndirectSegments: config['max-indirect-segments'],
    },
  };
}

/** What disks and guests may do in a second, in the backend's words. */
function rateLimits(config: Config): ConfiguredLimits {
  const patterns = Object.entries(config['disk-limits-for'] ?? {});
  const limitsFor = Object.fromEntries(patterns.map(([pattern, text]) => [pattern, limitsOf(text)]));
  return {
    diskLimits: byDisk(limitsFor, limitsOf(config['disk-limits'])),
    guestLimits: limitsOf(config['guest-limits']),
  };
}

function limitsOf(text: string | undefined): RateLimits {
  return (text === undefined ? undefined : parseRateLimits(text)) ?? {};
}

/** Which images are opened, and how, in the words of the image opener. */
export function imageOptions(config: Config): ImageOptions {
  return {
    directories: config['image-directories'],
    nbdHosts: config['nbd-hosts'],
    nbdTls: config['nbd-tls'],
    rbdPools: config['rbd-pools'],
    iscsiHosts: config['iscsi-hosts'],
    network: {
      cephConf: config['ceph-conf'],
      cephUser: config['ceph-user'],
      iscsiInitiator: config['iscsi-initiator'],
      iscsiSecrets: config['iscsi-secrets'],
    },
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
