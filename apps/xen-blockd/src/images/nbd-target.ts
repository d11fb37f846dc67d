import { type BlockImage, ImageWrapper, openNbdImage } from '@xenpv/blockdev';
import { refusal } from './refusal.js';
import { deviceFolder, HelperDirectory } from './storage-daemon/helper-directory.js';

/** What `nbd+unix:///NAME?socket=PATH&reconnect-seconds=N` names. */
export interface NbdTarget {
  readonly socket: string;
  readonly exportName: string;
  readonly reconnectSeconds: number | undefined;
}

export interface NbdTargetOptions extends Pick<NbdTarget, 'socket' | 'exportName'> {
  readonly device: string;
  readonly readOnly: boolean;
  /** An earlier process may have served the disk: writes that it has left are sent again. */
  readonly adopt?: boolean | undefined;
  /** Where a folder for those is made. */
  readonly directory?: string | undefined;
  readonly unflushedBytes?: number | undefined;
  /** Milliseconds for which requests wait for a server that went away; for as long as it takes when not given. */
  readonly reconnect?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

const RECONNECT = 'reconnect-seconds';

/** The server behind `nbd+unix:`, or undefined for any other target. Error: ERR_IMAGE. */
export function nbdTarget(target: string): NbdTarget | undefined {
  if (!target.startsWith('nbd+unix:')) return undefined;
  const url = new URL(target);
  const socket = url.searchParams.get('socket');
  if (!socket) throw refusal(target, 'expected nbd+unix:///NAME?socket=PATH');
  const text = url.searchParams.get(RECONNECT);
  if (text !== null && !/^[1-9]\d{0,5}$/.test(text)) {
    throw refusal(
      target,
      `${RECONNECT}=${text}; expected a whole number from 1 to 999999, or nothing: it waits for ever`,
    );
  }
  const reconnectSeconds = text === null ? undefined : Number(text);
  return { socket, exportName: decodeURIComponent(url.pathname.slice(1)), reconnectSeconds };
}

/** Opens the export of a server that is somebody else's. Errors: BlockDeviceError; ERR_SOCKET, there is no folder. */
export async function openNbdTarget(options: NbdTargetOptions): Promise<BlockImage> {
  const { socket, exportName, readOnly, device, directory, adopt, unflushedBytes: bytes, reconnect, signal } = options;
  const name = deviceFolder(device, [socket, exportName, readOnly]);
  const folder = directory === undefined || readOnly ? undefined : HelperDirectory.tryNamed(directory, name);
  const unflushed = { path: folder?.unflushed, bytes, adopt };
  try {
    const image = await openNbdImage(socket, { exportName, readOnly, reconnect, unflushed, signal });
    return folder ? new FolderImage(image, folder) : image;
  } catch (error) {
    folder?.remove();
    throw error;
  }
}

/** An image with a folder that goes with it. */
class FolderImage extends ImageWrapper {
  readonly #folder: HelperDirectory;

  constructor(image: BlockImage, folder: HelperDirectory) {
    super(image);
    this.#folder = folder;
  }

  protected override closeOnce(): Promise<void> {
    return super.closeOnce().finally(() => this.#folder.remove());
  }
}
