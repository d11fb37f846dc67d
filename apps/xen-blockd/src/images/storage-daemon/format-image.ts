import { statSync } from 'node:fs';
import { type BlockImage, ImageWrapper, openNbdImage, type RefreshOptions } from '@xenpv/blockdev';
import { BlockdError } from '../../errors.js';
import { Pulse } from '../network/pulse.js';
import { isNetworkDriver } from '../network/source.js';
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
  const { path, format, readOnly, adopt, unflushedBytes: bytes } = options;
  // Half of the time is for the server to answer, half for another helper to reach it.
  const silentMs = format === 'iscsi' && options.reconnect !== undefined ? options.reconnect / 2 : undefined;
  const reconnect = silentMs ?? options.reconnect;
  // One that hangs has storage that hangs, as a raw file would; its death is seen.
  const silence = Number.POSITIVE_INFINITY;
  // Writes that were kept belong to the image, whichever guest has it now.
  const kept = { bytes, adopt: true, changedAt: adopt ? undefined : changedAt(path) };
  const connect = (ended: AbortSignal) => {
    const unflushed = { path: daemon.unflushed, identity: daemon.fileNumber, ...kept };
    return openNbdImage(daemon.socket, { exportName: EXPORT, readOnly, reconnect, silence, unflushed, signal: ended });
  };
  try {
    const image = await daemon.open(connect, signal);
    return isNetworkDriver(format)
      ? new NetworkImage({ image, path, daemon }, silentMs)
      : new FormatImage({ image, path, daemon });
  } catch (error) {
    await daemon.close();
    throw error;
  }
}

/** When the file was changed, by its own time; 0 for a device. */
function changedAt(path: string): number {
  const found = statSync(path, { throwIfNoEntry: false });
  return found?.isFile() ? found.mtimeMs : 0;
}

/** The helper of an image, however it is wrapped; undefined for one that has none. */
export function helperOf(image: BlockImage | undefined): StorageDaemon | undefined {
  for (let inner = image; inner instanceof ImageWrapper; inner = inner.inner) {
    if (inner instanceof FormatImage) return inner.helper;
  }
  return undefined;
}

interface OpenedFormat {
  /** The daemon's export. */
  readonly image: BlockImage;
  readonly path: string;
  readonly daemon: StorageDaemon;
}

/** The daemon's export under the image's own name. */
class FormatImage extends ImageWrapper {
  readonly #path: string;
  readonly #daemon: StorageDaemon;

  constructor({ image, path, daemon }: OpenedFormat) {
    super(image);
    this.#path = path;
    this.#daemon = daemon;
  }

  /** Of the image itself, whatever the helper's socket is called. */
  override get identity(): string | undefined {
    return this.#daemon.identity;
  }

  override get engine(): string {
    return PROGRAM;
  }

  override get description(): string {
    return this.#path;
  }

  get helper(): StorageDaemon {
    return this.#daemon;
  }

  /** Larger only: what a guest's file system has at the end of the image would be cut off. */
  override get resize(): (bytes: number) => Promise<void> {
    return async (bytes) => {
      if (bytes < this.size) throw cannotShrink(this.#path, this.size, bytes);
      if (bytes > this.size) await this.#daemon.resize(bytes);
    };
  }

  protected override closeOnce(): Promise<void> {
    const closed = super.closeOnce();
    this.#daemon.closesAfter(closed);
    return closed.finally(() => this.#daemon.close());
  }
}

/** An image that may grow where it is kept. */
class NetworkImage extends FormatImage {
  readonly #pulse: Pulse | undefined;

  /** With `silentMs` a helper whose storage does not answer for so long is ended. */
  constructor(opened: OpenedFormat, silentMs: number | undefined) {
    super(opened);
    if (silentMs === undefined) return;
    const { daemon } = opened;
    const onSilent = () => void daemon.endSilent(silentMs / 1000);
    this.#pulse = new Pulse({ socket: daemon.socket, exportName: EXPORT, silentMs, onSilent });
  }

  protected override async closeOnce(): Promise<void> {
    this.#pulse?.stop();
    await super.closeOnce();
    await this.#pulse?.[Symbol.asyncDispose]();
  }

  override async refresh(options?: RefreshOptions): Promise<number> {
    await this.helper.reopen();
    return super.refresh(options);
  }
}

function cannotShrink(path: string, from: number, to: number): BlockdError {
  const advice = 'stop its guest, and use qemu-img resize --shrink';
  const message = `${path}: an image of its format is not made smaller while it is in use (${from} to ${to} bytes); ${advice}`;
  return new BlockdError('ERR_IMAGE', 'resize', message, { path });
}
