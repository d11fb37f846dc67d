import { fstatSync, ftruncateSync } from 'node:fs';
import type { Descriptor } from '../addon/addon.js';
import { errnoError } from '../errors.js';
import { openOwnFile } from './own-file.js';

/** A file's bytes as memory: what is written survives the process, and every process that maps it sees it. */
export interface SharedFile extends AsyncDisposable {
  /** The mapped file, as it was given to {@link mapSharedFile} or {@link mapSparseFile}. */
  readonly path: string;
  /** Detached by `close`. */
  readonly buffer: ArrayBuffer;
  /** Unmaps. Harmless when repeated. */
  close(): void;
}

/**
 * Maps the first `bytes` of a file, which is made (mode 0600, zeroed) or lengthened if need be. The blocks are
 * allocated at once, so that writing to the memory cannot fail for want of space later.
 * Errors: ERR_NO_ADDON, those of opening (ELOOP a link, EPERM not a file of this user's alone, ENOENT, EACCES), or the
 * errno of allocating (ENOSPC) or mapping.
 */
export function mapSharedFile(path: string, bytes: number): SharedFile {
  return mapFile(path, bytes, (file) => file.reserve(bytes));
}

/**
 * As {@link mapSharedFile}, for memory of which little is touched: a block is allocated when it is first written, and
 * the process gets SIGBUS when there is none left then. Errors: ERR_NO_ADDON, or an errno.
 */
export function mapSparseFile(path: string, bytes: number): SharedFile {
  return mapFile(path, bytes, ({ fd }) => {
    if (fstatSync(fd).size < bytes) ftruncateSync(fd, bytes);
    return 0;
  });
}

/** `prepare` gives the file its blocks: 0 or a negative errno. */
function mapFile(path: string, bytes: number, prepare: (file: Descriptor) => number): SharedFile {
  const file = openOwnFile(path, 'mapSharedFile');
  try {
    const error = prepare(file);
    if (error < 0) throw errnoError(error, 'mapSharedFile', path);
    const buffer = file.map(bytes, true, 0);
    if (typeof buffer === 'number') throw errnoError(buffer, 'mapSharedFile', path);
    return new MappedFile(path, buffer, file);
  } finally {
    file.close();
  }
}

class MappedFile implements SharedFile {
  readonly #file: Descriptor;

  constructor(
    readonly path: string,
    readonly buffer: ArrayBuffer,
    file: Descriptor,
  ) {
    this.#file = file;
  }

  close(): void {
    this.#file.unmap(this.buffer);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }
}
