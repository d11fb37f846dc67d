import { realpathSync } from 'node:fs';
import { sep } from 'node:path';
import { type BlockImage, type FileImageOptions, openFileImage } from '@xenpv/blockdev';
import type { DiskConfig } from '@xenpv/xen-block';
import { BlockdError } from './errors.js';

export interface ImageOpenerOptions {
  /** Images must be in or below one of these; undefined: anywhere. */
  readonly directories?: readonly string[] | undefined;
  /** As FileImageOptions has them; `auto` when not given. */
  readonly engine?: FileImageOptions['engine'];
  readonly direct?: FileImageOptions['direct'];
}

/** Opens what a toolstack's `params` name. What it throws becomes the device's error node. */
export function imageOpener(options: ImageOpenerOptions): (config: DiskConfig) => Promise<BlockImage> {
  return async (config) => {
    if (config.format !== 'raw') {
      const { format, target } = config;
      throw new BlockdError('ERR_IMAGE', `${target}: images of format ${format} are not served yet; convert it to raw`);
    }
    if (options.directories) checkDirectory(config.target, options.directories);
    return openFileImage(config.target, {
      readOnly: config.readOnly,
      engine: options.engine ?? 'auto',
      direct: config.direct || (options.direct ?? 'auto'),
      ...(config.discard === false ? { discard: false } : {}),
    });
  };
}

/** Links are followed first, so that none leads out. */
function checkDirectory(target: string, directories: readonly string[]): void {
  const path = realpathSync(target);
  const inside = directories.some((directory) =>
    path.startsWith(directory.endsWith(sep) ? directory : directory + sep),
  );
  if (!inside) {
    throw new BlockdError('ERR_IMAGE', `${target}: not in one of image-directories (${directories.join(', ')})`);
  }
}
