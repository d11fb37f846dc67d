import { type BlockImage, openFileImage } from '@xenpv/blockdev';
import type { DiskConfig } from '../disk-description.js';
import { XenBlockError } from '../errors.js';
import { imagePath } from './config.js';
import type { ImageOpening } from './disk.js';
import { diskName, imageUser } from './image-user.js';

/** Opens a raw file, or a block device, which may be named as below /dev. Error: ENOTSUP, another format. */
export async function openRawImage(
  config: DiskConfig,
  { signal, incoming }: Partial<ImageOpening> = {},
): Promise<BlockImage> {
  if (config.format !== 'raw') {
    throw new XenBlockError('ENOTSUP', 'prepare', `image format "${config.format}" is not served; expected raw (aio)`);
  }
  return openFileImage(imagePath(config.target), {
    readOnly: config.readOnly,
    lockFor: imageUser(config),
    quietFor: incoming === 'look' ? undefined : diskName(config),
    signal,
    ...(config.direct ? { direct: true } : {}),
  });
}
