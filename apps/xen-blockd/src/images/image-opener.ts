import { EventEmitter } from 'node:events';
import { constants, realpathSync } from 'node:fs';
import { access } from 'node:fs/promises';
import { type BlockImage, type FileImageOptions, type NbdAddress, openFileImage } from '@xenpv/blockdev';
import {
  type DiskConfig,
  diskName,
  IMAGE_FORMATS,
  type ImageOpener,
  type ImageOpening,
  imagePath,
  imageUser,
} from '@xenpv/xen-block';
import { deviceName } from '@xenpv/xenbus';
import type { LimitedLog } from '../log/limited-log.js';
import { exportForBoot } from './boot-export.js';
import { LentImage } from './lent-image.js';
import { nbdFolder, nbdTarget, openNbdTarget } from './nbd-target.js';
import { iscsiTarget } from './network/iscsi-target.js';
import { checkNetwork, type NetworkPolicy } from './network/policy.js';
import type { NetworkSettings } from './network/settings.js';
import { networkDriver } from './network/source.js';
import { isBelow, outsideOf, refusal } from './refusal.js';
import type { Orphans } from './storage-daemon/adoption/orphans.js';
import type { EndedJob, StorageDaemonEvent } from './storage-daemon/events.js';
import { openFormatImage } from './storage-daemon/format-image.js';
import { deviceFolder } from './storage-daemon/helper-directory.js';
import type { HelperBounds } from './storage-daemon/storage-daemon.js';

export interface ImageOpenerOptions extends NetworkPolicy {
  /** Hosts of NBD servers; any if this and `directories` are undefined, none if only this is. */
  readonly nbdHosts?: readonly string[] | undefined;
  /** The folder with the certificates for NBD over TLS. */
  readonly nbdTls?: string | undefined;
  /** How images on the network are reached; `reconnectSeconds` is that below. */
  readonly network?: NetworkSettings | undefined;
  /** Whether an image may name others that it is made of; true if undefined. */
  readonly backingFiles?: boolean | undefined;
  /** The system's user that storage helpers run as; root if undefined or if there is none. */
  readonly helperUser?: string | undefined;
  /** As in FileImageOptions; `auto` by default. */
  readonly engine?: FileImageOptions['engine'];
  readonly direct?: FileImageOptions['direct'];
  /** Where disks of type vbd3 are exported over NBD, for the emulated disks of HVM guests; nowhere if undefined. */
  readonly nbdDirectory?: string | undefined;
  /**
   * Where storage helpers have their sockets, and writes are kept that no flush has covered; the system's folder for
   * temporary files if undefined, where no later process looks for them.
   */
  readonly helperDirectory?: string | undefined;
  /** For so long requests wait for an NBD server or a helper that went away; for as long as it takes if undefined. */
  readonly reconnectSeconds?: number | undefined;
  /** Of such an image's writes that no flush has covered. */
  readonly unflushedMebibytes?: number | undefined;
  /** What earlier processes have left for devices that are gone; undefined if nothing is looked for. */
  readonly orphans?: Orphans | undefined;
  /** A guest can have its image opened again and again. */
  readonly log: LimitedLog;
}

/** What an opener may be told besides the disk. */
type OpeningOptions = Partial<ImageOpening>;

/** Tells how block jobs get on. */
export const jobNews = new EventEmitter<{ job: [BlockJobEvent] }>();

export type BlockJobEvent = Extract<StorageDaemonEvent, { readonly kind: `job-${string}` }>;

const STORAGE_DAEMON_LINES: Record<Exclude<StorageDaemonEvent['kind'], 'job-status'>, string> = {
  ended: 'qemu-storage-daemon ended',
  refused: 'qemu-storage-daemon does not start',
  running: 'qemu-storage-daemon runs again',
  adopted: 'qemu-storage-daemon of an earlier process goes on',
  unusable: 'qemu-storage-daemon of an earlier process is killed',
  uncaged: 'qemu-storage-daemon is not caged',
  stuck: 'qemu-storage-daemon was killed and does not end',
  'job-ready': 'block job has copied all, and waits to be completed',
  'job-ended': 'block job has ended',
  'job-cancelled': 'block job was cancelled',
  'job-failed': 'block job has failed',
};

const LEVELS: Partial<Record<StorageDaemonEvent['kind'], 'info' | 'warn'>> = {
  running: 'warn',
  uncaged: 'warn',
  adopted: 'info',
  'job-ready': 'info',
  'job-ended': 'info',
  'job-cancelled': 'info',
};

/** Opens the image that a toolstack's `params` name, a LentImage. Its errors become the device's error node. */
export function imageOpener(current: () => ImageOpenerOptions): ImageOpener {
  return async (config, opening) => {
    const options = current();
    const image = new LentImage(await openImage(config, { ...options, ...opening }));
    if (opening.incoming === 'look' || !options.nbdDirectory || config.address.type !== 'vbd3') return image;
    return exportForBoot(image, config, options.nbdDirectory).catch((error: Error) => {
      // A guest that boots by its own drivers does not miss it.
      tell(options, config.target, { level: 'warn', message: 'no NBD export for an HVM guest', reason: error.message });
      return image;
    });
  };
}

async function openImage(config: DiskConfig, options: ImageOpenerOptions & OpeningOptions): Promise<BlockImage> {
  const { format, readOnly, shared } = config;
  const { signal, offered, incoming, helperDirectory, reconnectSeconds, unflushedMebibytes, orphans } = options;
  const { nbd, driver, target } = namedImage(config, options.nbdTls);
  if (nbd) checkServer(nbd.address, config.target, options);
  const device = deviceName(config.address);
  const unflushedBytes = unflushedMebibytes && unflushedMebibytes << 20;
  const named = driver === 'iscsi' ? iscsiTarget(target) : nbd;
  const seconds = named?.reconnectSeconds ?? reconnectSeconds;
  const reconnect = seconds && 1000 * seconds;
  const common = { device, readOnly, adopt: offered, directory: helperDirectory, unflushedBytes, reconnect, signal };
  await orphans?.settled(device);
  if (nbd) return openNbdTarget({ ...common, ...nbd });
  if (driver) checkNetwork(target, driver, options);
  else if (format === 'raw') return openRaw({ ...config, target }, options);
  if (!driver && !IMAGE_FORMATS.includes(format)) {
    const known = ['raw (aio)', ...IMAGE_FORMATS].join(', ');
    throw refusal(target, `images of format ${format} are not served; the formats are ${known}`);
  }
  const onEvent = (event: StorageDaemonEvent) => logStorageDaemon(event, config, options);
  const release = orphans && ((path: string) => orphans.release(path));
  // What others have written to the image comes before what this disk will.
  if (!offered && incoming !== 'look') await release?.(target);
  return openFormatImage({
    ...common,
    ...helperBounds(options),
    path: target,
    format: driver ?? format,
    shared,
    release,
    onEvent,
    // Who has asked asks again.
    times: incoming === 'take' ? { lockedMs: 0 } : undefined,
  });
}

/** What a disk's configuration names. Errors: it names nothing that can be. */
function namedImage({ format, target: name }: DiskConfig, nbdTls?: string) {
  const nbd = nbdTarget(name, nbdTls);
  const driver = format === 'raw' ? networkDriver(name) : undefined;
  return { nbd, driver, target: nbd || driver ? name : imagePath(name) };
}

/**
 * The names of the folders below `helperDirectory` that a disk may have for its image, which is read-only or not; none for a raw
 * file, and without an image. Errors: as namedImage.
 */
export function foldersOfImage(config: DiskConfig): readonly string[] {
  if (config.target === '') return [];
  const { nbd, driver, target } = namedImage(config);
  if (!nbd && !driver && config.format === 'raw') return [];
  const device = deviceName(config.address);
  return [false, true].map((readOnly) =>
    nbd ? nbdFolder(device, { ...nbd, readOnly }) : deviceFolder(device, [target, driver ?? config.format, readOnly]),
  );
}

/** Which files a helper may have, and as whom it runs. */
export function helperBounds(options: Omit<ImageOpenerOptions, 'log'>): HelperBounds {
  const { directories, backingFiles, helperUser, network, reconnectSeconds } = options;
  return { chain: { directories, backingFiles }, user: helperUser, network: { ...network, reconnectSeconds } };
}

function logStorageDaemon(event: StorageDaemonEvent, { address, target }: DiskConfig, { log }: ImageOpenerOptions) {
  if (isJobNews(event)) jobNews.emit('job', event);
  if (event.kind === 'job-status') return;
  const { kind, ...facts } = event;
  const device = deviceName(address);
  log.write(STORAGE_DAEMON_LINES[kind], device, {
    level: LEVELS[kind] ?? 'error',
    message: STORAGE_DAEMON_LINES[kind],
    fields: { device, path: target, ...('job' in facts ? { ...facts, ...jobFields(facts.job) } : facts) },
  });
}

function isJobNews(event: StorageDaemonEvent): event is BlockJobEvent {
  return event.kind.startsWith('job-');
}

function jobFields({ id, type, offset, len }: EndedJob) {
  return { job: id, type, ...(len > 0 && { done: offset, of: len }) };
}

function tell(
  { log }: ImageOpenerOptions,
  path: string,
  { level, message, reason }: { level: 'warn' | 'error'; message: string; reason: string },
): void {
  log.write(message, path, { level, message, fields: { path, reason } });
}

async function openRaw(config: DiskConfig, options: ImageOpenerOptions & OpeningOptions): Promise<BlockImage> {
  const { directories } = options;
  const opening = openFileImage(config.target, {
    within: directories,
    readOnly: config.readOnly,
    lockFor: imageUser(config),
    quietFor: options.incoming === 'look' ? undefined : diskName(config),
    signal: options.signal,
    engine: options.engine ?? 'auto',
    direct: config.direct || (options.direct ?? 'auto'),
    discard: config.discard ?? true,
  });
  const image = await opening.catch((error) => {
    if (error.code !== 'ERR_IMAGE_OUTSIDE' || directories === undefined) throw error;
    throw refusal(config.target, outsideOf(directories), error);
  });
  if (options.incoming === 'look') await mustBeWritable(image);
  return image;
}

/** Better found out while the guest can still stay on its host. Errors: EROFS, EACCES. */
async function mustBeWritable(image: BlockImage): Promise<void> {
  try {
    await access(image.description, constants.W_OK);
  } catch (error) {
    await image.close();
    throw error;
  }
}

/** A server is an image like any other: what the configuration says of them holds for it. */
export function checkServer(
  address: NbdAddress,
  target: string,
  { directories, nbdHosts }: Pick<ImageOpenerOptions, 'directories' | 'nbdHosts'>,
): void {
  if (typeof address === 'string') {
    if (directories) checkDirectory(address, directories);
    return;
  }
  if (nbdHosts === undefined && directories === undefined) return;
  if (nbdHosts?.includes(address.host)) return;
  const allowed = nbdHosts
    ? `is none of nbd-hosts (${nbdHosts.join(', ')})`
    : 'is not allowed: image-directories is set, and nbd-hosts is not';
  throw refusal(target, `the server ${address.host} ${allowed}`);
}

/** Of a server's socket. Links are followed first, so that none leads out. */
function checkDirectory(target: string, directories: readonly string[]): void {
  const path = realpathSync(target);
  if (!directories.some((directory) => isBelow(path, directory))) throw refusal(target, outsideOf(directories));
}
