import { resolve } from 'node:path';

/** A server's TCP port. */
export interface NbdHostPort {
  /** A name, or an IPv4 or IPv6 address. */
  readonly host: string;
  /** TCP; 10809 is registered for NBD, and there is no default. */
  readonly port: number;
  /** What is said is encrypted, and the server is one that a certificate of a known authority names. */
  readonly tls?: NbdTls | undefined;
}

/** Who is believed, and who this client is, each as PEM text. */
export interface NbdTls {
  /** Authorities; those that Node.js knows if undefined. */
  readonly ca?: string | undefined;
  /** The certificate that this client shows, and those between it and its authority; none if undefined. */
  readonly cert?: string | undefined;
  /** The private key of `cert`, not encrypted. */
  readonly key?: string | undefined;
}

/** Where an NBD server listens: the path of a Unix socket, or a port of a host. */
export type NbdAddress = string | NbdHostPort;

/** For people: the path, `host:port` or `[address]:port`. */
export function addressText(address: NbdAddress): string {
  if (typeof address === 'string') return address;
  const { host, port } = address;
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** The export's URI, as of the NBD project's doc/uri.md. */
export function exportUri(address: NbdAddress, exportName: string): string {
  return typeof address === 'string'
    ? `nbd+unix:///${exportName}?socket=${address}`
    : `${address.tls ? 'nbds' : 'nbd'}://${addressText(address)}/${exportName}`;
}

/** The same on another thread, whatever its working folder is. */
export function absolute(address: NbdAddress): NbdAddress {
  return typeof address === 'string' ? resolve(address) : address;
}

/** Milliseconds after which a connection without traffic is probed, at the network's own level. */
const KEEP_ALIVE_MS = 10_000;

/** What node:net's `connect` takes. */
export function connectOptions(address: NbdAddress) {
  if (typeof address === 'string') return { path: address };
  // Requests are written whole: nothing is gained by waiting for more.
  const { host, port } = address;
  return { host, port, noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS };
}
