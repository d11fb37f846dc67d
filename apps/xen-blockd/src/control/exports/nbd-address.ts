/** QEMU's SocketAddressLegacy, as far as a server of disks listens there. */
import { QmpError } from '@xenpv/qmp';
import { isLoopbackHost } from '../../listen-address.js';

/** Where the server listens. */
export type NbdListenAddress = { readonly path: string } | { readonly host: string; readonly port: number };

interface SocketAddress {
  readonly type: 'unix' | 'inet';
  readonly data: {
    readonly path?: string | undefined;
    readonly host?: string | undefined;
    readonly port?: string | undefined;
  };
}

/**
 * A Unix socket, or a port that only this machine reaches: whoever connects reads guests' disks, and nothing asks who that is.
 * Error: QmpError.
 */
export function nbdListenAddress({ type, data }: SocketAddress): NbdListenAddress {
  return type === 'unix' ? unixAddress(data) : inetAddress(data);
}

function unixAddress({ path, host, port }: SocketAddress['data']): NbdListenAddress {
  if (path === undefined) throw QmpError.refusal("Parameter 'addr.data.path' is missing");
  if (host !== undefined || port !== undefined) throw unexpected(host === undefined ? 'port' : 'host');
  if (!path.startsWith('/'))
    throw QmpError.refusal(`path ${path}: expected a whole path, as /run/xen-blockd/nbd.socket`);
  return { path };
}

function inetAddress({ path, host, port }: SocketAddress['data']): NbdListenAddress {
  if (path !== undefined) throw unexpected('path');
  if (host === undefined || port === undefined) {
    throw QmpError.refusal(`Parameter 'addr.data.${host === undefined ? 'host' : 'port'}' is missing`);
  }
  if (!isLoopbackHost(host)) {
    const advice = 'listen on a Unix socket, or on localhost, and have ssh or stunnel carry it';
    throw QmpError.refusal(`host ${host}: nothing asks who reads the disks, so that only this machine may: ${advice}`);
  }
  const number = /^[0-9]{1,5}$/.test(port) ? Number(port) : 0;
  if (number < 1 || number > 65_535) throw QmpError.refusal(`port ${port}: expected a number from 1 to 65535`);
  return { host, port: number };
}

function unexpected(name: string): QmpError {
  return QmpError.refusal(`Parameter 'addr.data.${name}' is unexpected`);
}
