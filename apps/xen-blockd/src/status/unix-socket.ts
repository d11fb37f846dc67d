import { once } from 'node:events';
import { existsSync, lstatSync, unlinkSync } from 'node:fs';
import { createConnection, type Server } from 'node:net';
import { dirname } from 'node:path';
import { BlockdError, errorCode } from '../errors.js';

/** Bytes of a path that fit in `sockaddr_un`. */
const MAX_PATH_BYTES = 107;

/**
 * Listens on the Unix socket `path`. A socket that nobody listens on any more is replaced; one in use, or a file
 * that is no socket, is an error (ERR_SOCKET) that says so. The socket's file goes when the server closes.
 */
export async function listenOnUnixSocket(server: Server, path: string): Promise<void> {
  await prepareSocketPath(path);
  try {
    server.listen(path);
    await once(server, 'listening');
  } catch (error) {
    throw new BlockdError('ERR_SOCKET', 'listen', `cannot listen on socket ${path}: ${advice(error)}`, {
      cause: error,
    });
  }
}

/** Makes sure that a Unix socket can be made at `path`; removes one that nobody listens on. Error: ERR_SOCKET. */
export async function prepareSocketPath(path: string): Promise<void> {
  if (Buffer.byteLength(path) > MAX_PATH_BYTES) {
    throw new BlockdError(
      'ERR_SOCKET',
      'listen',
      `socket ${path}: the path is longer than ${MAX_PATH_BYTES} bytes; use a shorter one`,
    );
  }
  // Node reports a missing directory as EACCES.
  if (!existsSync(dirname(path))) {
    throw new BlockdError(
      'ERR_SOCKET',
      'listen',
      `socket ${path}: its directory does not exist; create it or choose another path`,
    );
  }
  await removeStaleSocket(path);
}

function advice(error: unknown): string {
  const code = errorCode(error);
  if (code === 'EACCES') return 'no permission to create it; choose another path or user';
  if (code === 'EADDRINUSE') return 'it is in use; choose another path';
  return (error as Error).message;
}

async function removeStaleSocket(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (!found) return;
  if (!found.isSocket()) {
    throw new BlockdError(
      'ERR_SOCKET',
      'listen',
      `socket ${path}: a file of that name exists and is not a socket; choose another path`,
    );
  }
  if (await answers(path)) {
    throw new BlockdError(
      'ERR_SOCKET',
      'listen',
      `socket ${path}: in use by another process; stop it or choose another path`,
    );
  }
  try {
    unlinkSync(path);
  } catch (error) {
    throw new BlockdError(
      'ERR_SOCKET',
      'listen',
      `socket ${path}: left by another process and not removable: ${(error as Error).message}`,
      {
        cause: error,
      },
    );
  }
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', (error) => resolve(errorCode(error) !== 'ECONNREFUSED'));
  });
}
