import type { BlockImage } from './block-image.js';
import { BlockDeviceError } from './errors.js';
import { openFileImage } from './file/image.js';
import type { FileImageOptions } from './file/options.js';
import { MemoryImage } from './memory/image.js';
import { type NullImageOptions, nullImage } from './memory/null-image.js';
import { type NbdImageOptions, openNbdImage } from './nbd/image.js';

type SharedData =
  | { kind: 'memory'; data: SharedArrayBuffer; sectorSize: number; readOnly: boolean }
  | { kind: 'null'; options: NullImageOptions }
  | { kind: 'nbd'; path: string; options: NbdImageOptions }
  | { kind: 'file'; path: string; options: FileImageOptions };

/** Opens, on another thread, the image whose `share()` gave `data`. */
export async function attachImage(data: unknown): Promise<BlockImage> {
  const shared = data as SharedData;
  switch (shared?.kind) {
    case 'memory':
      return new MemoryImage(shared.data, shared.sectorSize, shared.readOnly);
    case 'null':
      return nullImage(shared.options);
    case 'nbd':
      return openNbdImage(shared.path, shared.options);
    case 'file':
      return openFileImage(shared.path, shared.options);
    default:
      throw new BlockDeviceError('ERR_IMAGE_SHARED', 'attach', 'not the data of an image shared by this package');
  }
}
