import { realpathSync } from 'node:fs';
import { sep } from 'node:path';
import { type BlockImage, type FileImageOptions, openFileImage, openNbdImage } from '@xenpv/blockdev';
import { type DiskConfig, imageUser } from '@xenpv/xen-block';
import type { Logger } from 'pino';
import { BlockdError } from '../errors.js';
import { exportForBoot } from './boot-export.js';
import { openFormatImage, STORAGE_DAEMON_FORMATS } from './storage-daemon.js';

export interface ImageOpenerOptions {
  /** Images must be in or below one of these directories; anywhere if undefined. */
  readonly directories?: readonly string[] | undefined;
  /** As in FileImageOptions; `auto` by default. */
  readonly engine?: FileImageOptions['engine'];
  readonly direct?: FileImageOptions['direct'];
  /** Where disks of type vbd3 are exported over NBD, for the emulated disks of HVM guests; nowhere if undefined. */
  readonly nbdDirectory?: string | undefined;
  readonly logger?: Logger;
}

/** Opens the image that a toolstack's `params` name. Its errors become the device's error node. */
export function imageOpener(options: ImageOpenerOptions): (config: DiskConfig) => Promise<BlockImage> {
  return async (config) => {
    const image = await openImage(config, options);
    if (!options.nbdDirectory || config.address.type !== 'vbd3') return image;
    return exportForBoot(image, config, options.nbdDirectory).catch((error: Error) => {
      // A guest that boots by its own drivers does not miss it.
      options.logger?.warn({ path: config.target, reason: error.message }, 'no NBD export for an HVM guest');
      return image;
    });
  };
}

async function openImage(config: DiskConfig, options: ImageOpenerOptions): Promise<BlockImage> {
  const { format, target, readOnly, shared } = config;
  const nbd = nbdTarget(target);
  if (options.directories) checkDirectory(nbd?.socket ?? target, options.directories);
  if (nbd) return openNbdImage(nbd.socket, { exportName: nbd.exportName, readOnly });
  if (format === 'raw') return openRaw(config, options);
  if (!STORAGE_DAEMON_FORMATS.includes(format)) {
    const known = ['raw (aio)', ...STORAGE_DAEMON_FORMATS].join(', ');
    throw refusal(target, `images of format ${format} are not served; the formats are ${known}`);
  }
  const onRestart = (reason: string) => options.logger?.error({ path: target, reason }, 'qemu-storage-daemon ended');
  return openFormatImage(target, { format, readOnly, shared, onRestart });
}

function openRaw(config: DiskConfig, options: ImageOpenerOptions): Promise<BlockImage> {
  return openFileImage(config.target, {
    readOnly: config.readOnly,
    lockFor: imageUser(config),
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
