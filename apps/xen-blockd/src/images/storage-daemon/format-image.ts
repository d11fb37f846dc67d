import { statSync } from 'node:fs';
import { type BlockImage, ImageWrapper, openNbdImage, storageIdentity } from '@xenpv/blockdev';
import { EXPORT, PROGRAM } from './arguments.js';
import { StorageDaemon, type StorageDaemonOptions } from './storage-daemon.js';

export interface FormatImageOptions extends StorageDaemonOptions {
  /** Milliseconds for which requests wait for a helper that ended; for as long as it takes when not given. */
  readonly reconnect?: number | undefined;
  /** Bytes for writes that are not flushed. */
  readonly unflushedBytes?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Opens an image of a format that is not raw: a qemu-storage-daemon of its own reads it and serves it over NBD on a
 * private socket. So no format is parsed in the process that maps guests' memory. The format is the toolstack's, never
 * probed, because a guest writes its own first sectors. A daemon that ends is started again; meanwhile the NBD image
 * holds its requests, and sends again what was not flushed. It ends with the image, and outlives a process that is killed:
 * the next one goes on with it.
 * Errors: ERR_TOOL if the program is missing, ERR_IMAGE if it refuses the image, ERR_TIMEOUT if it does not get ready,
 * ERR_SOCKET if there is no place for its socket, the signal's reason.
 */
export async function openFormatImage({ signal, ...options }: FormatImageOptions): Promise<BlockImage> {
  const daemon = new StorageDaemon(options);
  const { path, readOnly, reconnect, adopt, unflushedBytes: bytes } = options;
  // One that hangs has storage that hangs, as a raw file would; its death is seen.
  const silence = Number.POSITIVE_INFINITY;
  const unflushed = { path: daemon.unflushed, bytes, adopt, identity: identityOf(path) };
  const connect = (ended: AbortSignal) =>
    openNbdImage(daemon.socket, { exportName: EXPORT, readOnly, reconnect, silence, unflushed, signal: ended });
  try {
    const image = await daemon.open(connect, signal);
    const identity = await storageIdentity(path).catch(() => undefined);
    return new FormatImage({ image, identity, path, daemon });
  } catch (error) {
    await daemon.close();
    throw error;
  }
}

/** Which file it is, or 0: devices have other numbers when they are found again. */
function identityOf(path: string): number {
  const found = statSync(path, { throwIfNoEntry: false });
  return found?.isFile() ? found.ino | 0 : 0;
}

interface OpenedFormat {
  /** The daemon's export. */
  readonly image: BlockImage;
  readonly identity: string | undefined;
  readonly path: string;
  readonly daemon: StorageDaemon;
}

/** The daemon's export under the image's own name. */
class FormatImage extends ImageWrapper {
  readonly #path: string;
  readonly #daemon: StorageDaemon;
  /** Of the image itself, whatever the helper's socket is called. */
  readonly #identity: string | undefined;

  constructor({ image, identity, path, daemon }: OpenedFormat) {
    super(image);
    this.#identity = identity;
    this.#path = path;
    this.#daemon = daemon;
  }

  override get identity(): string | undefined {
    return this.#identity;
  }

  override get engine(): string {
    return PROGRAM;
  }

  override get description(): string {
    return this.#path;
  }

  protected override closeOnce(): Promise<void> {
    return super.closeOnce().finally(() => this.#daemon.close());
  }
}
