/** Where a server listens: on a Unix socket, or on a TCP port; no host is every address of this machine. */
export type ListenAddress = { readonly path: string } | { readonly host: string | undefined; readonly port: number };

export const LISTEN_ADDRESS_FORM = 'the path of a socket or HOST:PORT (localhost:9105, [::1]:9105, *:9105)';

/** As `sockaddr_un` has room. */
const MAX_PATH_BYTES = 107;

/**
 * `/PATH`, `HOST:PORT`, `[IPv6]:PORT`, `:PORT` for localhost and `*:PORT` for all addresses; ports from 1 to 65535.
 * Undefined if it is none of these.
 */
export function parseListenAddress(text: string): ListenAddress | undefined {
  if (text.startsWith('/')) return isSocketPath(text) ? { path: text } : undefined;
  const [, bracketed, name, digits] = /^(?:\[([0-9A-Fa-f:.]+(?:%\w+)?)\]|([\w.-]+|\*|)):([0-9]{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (digits === undefined || port < 1 || port > 65_535) return undefined;
  if (bracketed !== undefined) return bracketed.includes(':') ? { host: bracketed, port } : undefined;
  return { host: name === '*' ? undefined : name || 'localhost', port };
}

/** Whether a Unix socket can have this path. */
function isSocketPath(path: string): boolean {
  return Buffer.byteLength(path) <= MAX_PATH_BYTES && !path.includes('\0') && !path.endsWith('/');
}

export const LOOPBACK_ADDRESS_FORM = 'the path of a socket, localhost:PORT, 127.0.0.1:PORT or [::1]:PORT';

/** The same of addresses that only this machine reaches; undefined for all others. */
export function parseLoopbackAddress(text: string): ListenAddress | undefined {
  const address = parseListenAddress(text);
  if (address === undefined || 'path' in address) return address;
  return address.host !== undefined && isLoopbackHost(address.host) ? address : undefined;
}

/** Whether a name always means this machine, without asking anybody: `localhost`, `127.0.0.1`, `::1`. */
export function isLoopbackHost(host: string): boolean {
  return /^(?:localhost|127(?:\.(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)){3}|::1)$/i.test(host);
}
