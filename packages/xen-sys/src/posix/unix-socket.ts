import { once } from 'node:events';
import { existsSync, lstatSync, rmSync } from 'node:fs';
import { createConnection, type Server } from 'node:net';
import { dirname } from 'node:path';
import { type ErrnoName, XenSysError } from '../errors.js';

/** Bytes of a path that fit in `sockaddr_un`. */
const MAX_PATH_BYTES = 107;

/** How a socket is listened on. */
export interface ListenOptions {
  /** The `op` of errors; `unixSocket.listen` if not given. */
  readonly op?: string | undefined;
}

const OP = 'unixSocket.listen';

const ADVICE: Record<string, string | undefined> = {
  EACCES: 'no permission to create it; choose another path or user',
  EADDRINUSE: 'it is in use; choose another path',
};

/**
 * Listens on the Unix socket `path`. A socket that nobody listens on any more is replaced. The socket's file goes when
 * the server closes.
 * Errors: those of {@link prepareSocketPath}, EACCES no permission, or another errno of listening.
 */
export async function listenOnUnixSocket(server: Server, path: string, options: ListenOptions = {}): Promise<void> {
  await prepareSocketPath(path, options);
  try {
    server.listen(path);
    await once(server, 'listening');
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    const advice = ADVICE[code ?? ''] ?? message;
    throw new XenSysError(codeOf(code), options.op ?? OP, `cannot listen on socket ${path}: ${advice}`, {
      path,
      cause,
    });
  }
}

/**
 * Makes sure that a Unix socket can be made at `path`, and removes one that nobody listens on.
 * Errors: ENAMETOOLONG more than 107 bytes, ENOENT no such directory, EEXIST a file that is no socket, EADDRINUSE a
 * socket that another process serves, or the errno of removing one that was left behind. Messages say what to do.
 */
export async function prepareSocketPath(path: string, { op = OP }: ListenOptions = {}): Promise<void> {
  const refuse = (code: ErrnoName, problem: string): never => {
    throw new XenSysError(code, op, `socket ${path}: ${problem}`, { path });
  };
  if (Buffer.byteLength(path) > MAX_PATH_BYTES) {
    refuse('ENAMETOOLONG', `the path is longer than ${MAX_PATH_BYTES} bytes; use a shorter one`);
  }
  // Node reports a missing directory as EACCES.
  if (!existsSync(dirname(path))) {
    refuse('ENOENT', 'its directory does not exist; create it or choose another path');
  }
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (!found) return;
  if (!found.isSocket()) {
    refuse('EEXIST', 'a file of that name exists and is not a socket; choose another path');
  }
  if (await isServed(path)) {
    refuse('EADDRINUSE', 'in use by another process; stop it or choose another path');
  }
  removeStale(path, op);
}

function removeStale(path: string, op: string): void {
  try {
    rmSync(path, { force: true });
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    const problem = `left by another process and not removable: ${message}`;
    throw new XenSysError(codeOf(code), op, `socket ${path}: ${problem}`, { path, cause });
  }
}

/** Whether somebody accepts connections. Only a refusal, or a socket that has gone meanwhile, says that nobody does. */
function isServed(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createConnection(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', ({ code }: NodeJS.ErrnoException) => resolve(code !== 'ECONNREFUSED' && code !== 'ENOENT'));
  });
}

function codeOf(code = 'EIO'): ErrnoName {
  return code as ErrnoName;
}
