import { flushAndClose } from '../flush-and-close.js';
import { openFormatImage } from './format-image.js';
import type { ServedImage } from './helper-directory.js';
import type { HelperBounds } from './storage-daemon.js';

/** Whose writes were kept, and where. */
export interface KeptWrites {
  /** In which the folders of devices are. */
  readonly directory: string;
  readonly device: string;
  readonly image: ServedImage;
  readonly bounds?: HelperBounds | undefined;
}

/**
 * Sends the writes that a process has kept for a disk that is gone to its image, and flushes it. Those of an image that
 * was changed since are dropped. Errors: as openFormatImage.
 */
export async function writeBack({ directory, device, image, bounds }: KeptWrites): Promise<void> {
  await flushAndClose(await openFormatImage({ ...image, ...bounds, readOnly: false, directory, device, adopt: false }));
}
