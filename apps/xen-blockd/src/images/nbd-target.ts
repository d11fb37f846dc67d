import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type BlockImage, ImageWrapper, type NbdAddress, type NbdTls, openNbdImage } from '@xenpv/blockdev';
import { refusal } from './refusal.js';
import { deviceFolder, HelperDirectory } from './storage-daemon/helper-directory.js';

/** What `nbd+unix:///NAME?socket=PATH`, `nbd://HOST:PORT/NAME` and `nbds://…`, by TLS, name; all with `reconnect-seconds=N`. */
export interface NbdTarget {
  readonly address: NbdAddress;
  readonly exportName: string;
  readonly reconnectSeconds: number | undefined;
}

export interface NbdTargetOptions extends Pick<NbdTarget, 'address' | 'exportName'> {
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
const FORMS = 'expected nbd+unix:///NAME?socket=PATH, nbd://HOST:PORT/NAME or nbds://HOST:PORT/NAME';
const AUTHORITY = 'ca-cert.pem';
const CLIENT_CERTIFICATE = 'client-cert.pem';
const CLIENT_KEY = 'client-key.pem';
/** IANA's. */
const NBD_PORT = 10809;

/**
 * The server behind `nbd+unix:`, `nbd:` and `nbds:`, or undefined for any other target. `tls` is the folder with the
 * certificates of the last. Error: ERR_IMAGE.
 */
export function nbdTarget(target: string, tls?: string): NbdTarget | undefined {
  if (!/^nbd(s|\+unix)?:/.test(target)) return undefined;
  const url = parsed(target);
  const text = url.searchParams.get(RECONNECT);
  if (text !== null && !/^[1-9]\d{0,5}$/.test(text)) {
    throw refusal(
      target,
      `${RECONNECT}=${text}; expected a whole number from 1 to 999999, or nothing: it waits for ever`,
    );
  }
  const reconnectSeconds = text === null ? undefined : Number(text);
  return {
    address: addressOf(url, target, tls),
    exportName: decoded(url.pathname.slice(1), target),
    reconnectSeconds,
  };
}

function parsed(target: string): URL {
  try {
    return new URL(target);
  } catch (cause) {
    throw refusal(target, FORMS, cause);
  }
}

/** NBD's names are UTF-8, of at most so many bytes; a zero byte would end one in QEMU. */
const MOST_NAME_BYTES = 4096;

function decoded(path: string, target: string): string {
  let name: string;
  try {
    name = decodeURIComponent(path);
  } catch (cause) {
    throw refusal(target, `the name of its export is no UTF-8 with %XX; ${FORMS}`, cause);
  }
  if (name.includes('\0') || Buffer.byteLength(name) > MOST_NAME_BYTES) throw refusal(target, FORMS);
  return name;
}

function addressOf(url: URL, target: string, folder: string | undefined): NbdAddress {
  const { protocol, hostname, port, searchParams, username, password } = url;
  const socket = searchParams.get('socket');
  if (protocol === 'nbd+unix:') {
    // A name without a slash would be one in the daemon's own folder, or an abstract socket.
    if (!socket?.startsWith('/') || socket.includes('\0')) throw refusal(target, FORMS);
    return socket;
  }
  const isWrong = hostname === '' || username !== '' || password !== '' || port === '0' || socket !== null;
  if (isWrong) throw refusal(target, FORMS);
  // Of an IPv6 address the brackets are the URL's.
  const server = { host: hostname.replace(/^\[(.*)\]$/, '$1'), port: port === '' ? NBD_PORT : Number(port) };
  return protocol === 'nbds:' ? { ...server, tls: certificates(folder, target) } : server;
}

/** By the names that QEMU has for them; without a folder the authorities that Node.js knows, and no certificate of ours. */
function certificates(folder: string | undefined, target: string): NbdTls {
  if (folder === undefined) return {};
  const own = existsSync(join(folder, CLIENT_CERTIFICATE));
  try {
    const read = (name: string) => readFileSync(join(folder, name), 'utf8');
    return {
      ca: read(AUTHORITY),
      ...(own && { cert: read(CLIENT_CERTIFICATE), key: read(CLIENT_KEY) }),
    };
  } catch (cause) {
    const { code, path = folder } = cause as { code?: string; path?: string };
    throw refusal(target, `the certificates of nbd-tls cannot be read: ${path} (${code ?? cause})`, cause);
  }
}

/** Opens the export of a server that is somebody else's. Errors: BlockDeviceError; ERR_SOCKET, there is no folder. */
export async function openNbdTarget(options: NbdTargetOptions): Promise<BlockImage> {
  const { address, exportName, readOnly, device, directory, adopt, unflushedBytes: bytes, reconnect, signal } = options;
  const name = nbdFolder(device, { address, exportName, readOnly });
  const folder = directory === undefined || readOnly ? undefined : HelperDirectory.tryNamed(directory, name);
  const unflushed = { path: folder?.unflushed, bytes, adopt };
  try {
    const image = await openNbdImage(address, { exportName, readOnly, reconnect, unflushed, signal });
    return folder ? new FolderImage(image, folder) : image;
  } catch (error) {
    folder?.remove();
    throw error;
  }
}

/** The name of the folder for a device and the export that it has. */
export function nbdFolder(
  device: string,
  { address, exportName, readOnly }: Pick<NbdTarget, 'address' | 'exportName'> & { readonly readOnly: boolean },
): string {
  return deviceFolder(device, [serverName(address), exportName, readOnly]);
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

/** Certificates may be renewed: the server stays the same. */
function serverName(address: NbdAddress): string {
  return typeof address === 'string' ? address : `${address.host} ${address.port}`;
}
