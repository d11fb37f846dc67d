import type { Server } from 'node:net';
import { listenOnUnixSocket as listen, prepareSocketPath as prepare, XenSysError } from '@xenpv/xen-sys';
import { BlockdError } from './errors.js';

/** Listens on the Unix socket `path`, as xen-sys does. Error: ERR_SOCKET, which says what to do. */
export function listenOnUnixSocket(server: Server, path: string): Promise<void> {
  return listen(server, path).catch(refuse);
}

/** The same, for the owner of the process alone. */
export async function listenPrivately(server: Server, path: string): Promise<void> {
  const umask = process.umask(0o077);
  try {
    await listenOnUnixSocket(server, path);
  } finally {
    process.umask(umask);
  }
}

/** Makes sure that a Unix socket can be made at `path`; removes a stale one. Error: ERR_SOCKET. */
export function prepareSocketPath(path: string): Promise<void> {
  return prepare(path).catch(refuse);
}

function refuse(cause: unknown): never {
  if (cause instanceof XenSysError)
    throw new BlockdError('ERR_SOCKET', 'listen', cause.message, { path: cause.path, cause });
  throw cause;
}
