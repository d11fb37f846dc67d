import type { ImageUser } from '../locks/image-user.js';
import type { FileDescriptors } from '../queue/descriptors.js';

/** What does a file's I/O. */
export type FileEngine = 'io_uring' | 'threads' | 'sync';

/** How `openFileImage` opens a file or block device. */
export interface FileImageOptions {
  /**
   * Opened with O_RDONLY, and locked as a reader. False unless given, which fails with EROFS for a write-protected
   * device or file system.
   */
  readonly readOnly?: boolean | undefined;
  /** The image must be in or below one of these directories once links are followed; anywhere if undefined. */
  readonly within?: readonly string[] | undefined;
  /**
   * `auto`, the default, is io_uring where it works and threads elsewhere: up to 4 of each queue's own. Without the addon
   * they are those of libuv's pool, which all images share.
   * `sync` reads and writes on the calling thread, which waits for the storage.
   */
  readonly engine?: 'auto' | FileEngine | undefined;
  /** Past the page cache (O_DIRECT). `auto`, the default: with io_uring, wherever the storage's alignment allows it. */
  readonly direct?: 'auto' | boolean | undefined;
  /** Bytes; a block device's own, 512 for files unless given. */
  readonly sectorSize?: number | undefined;
  /** False hides discard from users of the image. */
  readonly discard?: boolean | undefined;
  /** True promises that a block device has BLKSECDISCARD, which the kernel does not tell. */
  readonly secureDiscard?: boolean | undefined;
  /**
   * Who uses the image: it is then locked against other users as QEMU does it, so that QEMU's tools respect the lock
   * and theirs is respected. Readers share an image, a writer has it alone. Not locked if undefined.
   */
  readonly lockFor?: ImageUser | undefined;
  /**
   * The name of the disk that the image serves, the same in each process that serves it. Opening then waits until nothing
   * is in flight that an earlier process began on this image for this disk, even if that process was killed: its requests
   * may be on their way to slow storage long after its end. Not waited for if undefined.
   */
  readonly quietFor?: string | undefined;
}

/** What another thread of this process needs to have the same image. */
export interface SharedFile {
  readonly path: string;
  readonly options: FileImageOptions;
  /** The first thread's. */
  readonly files: FileDescriptors;
  /** Which storage they are, as long as that thread's image is open. */
  readonly identity: string;
}
