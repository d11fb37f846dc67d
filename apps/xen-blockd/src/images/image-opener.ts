import { realpathSync } from 'node:fs';
import { sep } from 'node:path';
import { type BlockImage, type FileImageOptions, openFileImage, openNbdImage } from '@xenpv/blockdev';
import { type DiskConfig, diskName, type ImageOpener, imagePath, imageUser } from '@xenpv/xen-block';
import { deviceName } from '@xenpv/xenbus';
import { BlockdError } from '../errors.js';
import type { LimitedLog } from '../log/limited-log.js';
import { exportForBoot } from './boot-export.js';
import { STORAGE_DAEMON_FORMATS } from './storage-daemon/arguments.js';
import type { StorageDaemonEvent } from './storage-daemon/events.js';
import { openFormatImage } from './storage-daemon/format-image.js';

export interface ImageOpenerOptions {
  /** Images must be in or below one of these directories; anywhere if undefined. */
  readonly directories?: readonly string[] | undefined;
  /** As in FileImageOptions; `auto` by default. */
  readonly engine?: FileImageOptions['engine'];
  readonly direct?: FileImageOptions['direct'];
  /** Where disks of type vbd3 are exported over NBD, for the emulated disks of HVM guests; nowhere if undefined. */
  readonly nbdDirectory?: string | undefined;
  /** Where storage helpers have their sockets; the system's folder for temporary files if undefined. */
  readonly helperDirectory?: string | undefined;
  /** A guest can have its image opened again and again. */
  readonly log: LimitedLog;
}

/** What an opener may be told besides the disk. */
interface OpeningOptions {
  /** Ends the opening. */
  readonly signal?: AbortSignal | undefined;
}

const STORAGE_DAEMON_LINES: Record<StorageDaemonEvent['kind'], string> = {
  ended: 'qemu-storage-daemon ended',
  refused: 'qemu-storage-daemon does not start',
  running: 'qemu-storage-daemon runs again',
  stuck: 'qemu-storage-daemon was killed and does not end',
};

/** Opens the image that a toolstack's `params` name. Its errors become the device's error node. */
export function imageOpener(current: () => ImageOpenerOptions): ImageOpener {
  return async (config, { signal }) => {
    const options = current();
    const image = await openImage(config, { ...options, signal });
    if (!options.nbdDirectory || config.address.type !== 'vbd3') return image;
    return exportForBoot(image, config, options.nbdDirectory).catch((error: Error) => {
      // A guest that boots by its own drivers does not miss it.
      tell(options, config.target, { level: 'warn', message: 'no NBD export for an HVM guest', reason: error.message });
      return image;
    });
  };
}

async function openImage(config: DiskConfig, options: ImageOpenerOptions & OpeningOptions): Promise<BlockImage> {
  const { format, readOnly, shared } = config;
  const { signal } = options;
  const nbd = nbdTarget(config.target);
  const target = nbd ? config.target : imagePath(config.target);
  if (options.directories) checkDirectory(nbd?.socket ?? target, options.directories);
  if (nbd) return openNbdImage(nbd.socket, { exportName: nbd.exportName, readOnly, signal });
  if (format === 'raw') return openRaw({ ...config, target }, options);
  if (!STORAGE_DAEMON_FORMATS.includes(format)) {
    const known = ['raw (aio)', ...STORAGE_DAEMON_FORMATS].join(', ');
    throw refusal(target, `images of format ${format} are not served; the formats are ${known}`);
  }
  const onEvent = (event: StorageDaemonEvent) => logStorageDaemon(event, config, options);
  return openFormatImage({
    path: target,
    format,
    readOnly,
    shared,
    directory: options.helperDirectory,
    signal,
    onEvent,
  });
}

function logStorageDaemon(event: StorageDaemonEvent, { address, target }: DiskConfig, { log }: ImageOpenerOptions) {
  const { kind, ...facts } = event;
  const device = deviceName(address);
  log.write(STORAGE_DAEMON_LINES[kind], device, {
    level: kind === 'running' ? 'warn' : 'error',
    message: STORAGE_DAEMON_LINES[kind],
    fields: { device, path: target, ...facts },
  });
}

function tell(
  { log }: ImageOpenerOptions,
  path: string,
  { level, message, reason }: { level: 'warn' | 'error'; message: string; reason: string },
): void {
  log.write(message, path, { level, message, fields: { path, reason } });
}

function openRaw(config: DiskConfig, options: ImageOpenerOptions & OpeningOptions): Promise<BlockImage> {
  return openFileImage(config.target, {
    readOnly: config.readOnly,
    lockFor: imageUser(config),
    quietFor: diskName(config),
    signal: options.signal,
    engine: options.engine ?? 'auto',
    direct: config.direct || (options.direct ?? 'auto'),
    discard: config.discard ?? true,
  });
}

/** The server behind `nbd+unix:///NAME?socket=PATH`, or undefined for any other target. */
function nbdTarget(target: string): { socket: string; exportName: string } | undefined {
  if (!target.startsWith('nbd+unix:')) return undefined;
  const url = new URL(target);
  const socket = url.searchParams.get('socket');
  if (!socket) throw refusal(target, 'expected nbd+unix:///NAME?socket=PATH');
  return { socket, exportName: decodeURIComponent(url.pathname.slice(1)) };
}

/** Links are followed first, so that none leads out. */
function checkDirectory(target: string, directories: readonly string[]): void {
  const path = realpathSync(target);
  const inside = directories.some((directory) =>
    path.startsWith(directory.endsWith(sep) ? directory : directory + sep),
  );
  if (!inside) throw refusal(target, `not in one of image-directories (${directories.join(', ')})`);
}

function refusal(target: string, reason: string): BlockdError {
  return new BlockdError('ERR_IMAGE', 'open image', `${target}: ${reason}`, { path: target });
}
