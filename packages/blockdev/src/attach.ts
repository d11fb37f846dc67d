import type { BlockImage } from './block-image.js';
import { BlockDeviceError } from './errors.js';
import { attachFileImage } from './file/attach.js';
import type { SharedFile } from './file/options.js';
import { type MemoryDisk, MemoryImage } from './memory/image.js';
import { type NullImageOptions, nullImage } from './memory/null-image.js';
import { attachNbdImage, type SharedNbdImage } from './nbd/image.js';

type SharedData =
  | ({ kind: 'memory' } & MemoryDisk)
  | { kind: 'null'; options: NullImageOptions }
  | ({ kind: 'nbd' } & SharedNbdImage)
  | ({ kind: 'file' } & SharedFile);

/** Opens, on another thread, the image whose `share()` gave `data`. */
export async function attachImage(data: unknown): Promise<BlockImage> {
  const shared = data as SharedData;
  switch (shared?.kind) {
    case 'memory':
      return new MemoryImage(shared);
    case 'null':
      return nullImage(shared.options);
    case 'nbd':
      return attachNbdImage(shared);
    case 'file':
      return attachFileImage(shared);
    default:
      throw new BlockDeviceError('ERR_IMAGE_SHARED', 'attach', 'not the data of an image shared by this package');
  }
}
