import { fstat } from 'node:fs';
import { promisify } from 'node:util';
import { type Addon, optionalAddon } from '../addon.js';
import { BlockDeviceError, openError } from '../errors.js';
import { wholeSectors } from '../geometry.js';
import { storageId } from '../locks/storage-id.js';
import type { FileDescriptors } from '../queue/descriptors.js';
import { ringFor } from './engine.js';
import { FileImage, openPinnedFile } from './image.js';
import type { SharedFile } from './options.js';
import { PinnedFile } from './pinned-file.js';
import { storageFacts } from './probe.js';

const statFile = promisify(fstat);

/**
 * The image on another thread, with duplicates of the descriptors: the locks on them tell of what is in flight there, too.
 * Error: ERR_IMAGE_SHARED when the image was closed in the meantime.
 */
export async function attachFileImage({ path, options, files, identity }: SharedFile): Promise<FileImage> {
  const addon = optionalAddon();
  if (!addon) return openAgain({ path, options, files, identity });
  const buffered = addon.duplicate(files.buffered);
  const main = files.main === files.buffered ? buffered : addon.duplicate(files.main);
  const own = { main, buffered };
  const closeFiles = (duplicates: FileDescriptors) => closeDuplicates(addon, duplicates);
  try {
    await checkDuplicates(own, path, identity);
    const facts = storageFacts(await statFile(buffered));
    const size = wholeSectors(facts.size, options.sectorSize ?? facts.logicalSectorSize, path);
    const ring = ringFor(path, options.engine);
    return new FileImage({ path, options, facts, size, files: own, closeFiles, identity, ring });
  } catch (error) {
    await closeFiles(own);
    throw openError(error, 'attach', path);
  }
}

/** Without the addon nothing is locked, so that an open file description of its own does as well. */
async function openAgain({ path, options, files, identity }: SharedFile): Promise<FileImage> {
  const pinned = await PinnedFile.ofDescriptor(files.buffered, path);
  const image = await openPinnedFile(pinned, options).finally(() => pinned.close());
  if (image.identity === identity) return image;
  await image.close();
  throw closedBefore(path);
}

/** The number of a descriptor that was closed is given to another one. */
async function checkDuplicates({ main, buffered }: FileDescriptors, path: string, identity: string): Promise<void> {
  for (const fd of [main, buffered]) {
    if (fd >= 0 && (await storageId(fd)).key === identity) continue;
    throw closedBefore(path);
  }
}

function closedBefore(path: string): BlockDeviceError {
  const message = `${path} was closed before another thread could have it`;
  return new BlockDeviceError('ERR_IMAGE_SHARED', 'attach', message, { path });
}

async function closeDuplicates(addon: Addon, { main, buffered }: FileDescriptors): Promise<void> {
  for (const fd of new Set([main, buffered])) {
    if (fd >= 0) await new Promise((resolve) => addon.closeDuplicate(fd, resolve));
  }
}
