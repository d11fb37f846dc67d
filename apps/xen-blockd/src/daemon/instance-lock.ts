import { mkdirSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { lockFile } from '@xenpv/xen-sys';
import { Cleanup } from '../cleanup.js';
import { BlockdError, errorCode } from '../errors.js';

/** No option moves it: two daemons with different options must meet here. */
const DIRECTORY = '/run/xen-blockd';
const SYSTEM_XENSTORED = '/run/xenstored/socket';

/**
 * Makes sure that no other daemon of this domain serves one of the types: a lock file for each, in a folder of the
 * system, or beside the socket of a private xenstored (XENSTORED_PATH, XENSTORED_RUNDIR). The kernel lets go of them
 * with the process. Errors: ERR_RUNNING, which names the other process; ERR_LOCK, the files cannot be made.
 */
export function lockInstance(types: readonly string[], directory = lockDirectory()): Disposable {
  const locks = new Cleanup();
  const release = { [Symbol.dispose]: () => void locks[Symbol.asyncDispose]() };
  try {
    mkdirSync(directory, { recursive: true, mode: 0o755 });
    // In one order, so that of two with overlapping types one gets all of its own.
    for (const type of [...new Set(types)].sort()) locks.use(lockFile(join(directory, `${type}.lock`)));
    return release;
  } catch (error) {
    release[Symbol.dispose]();
    throw refusal(error, directory);
  }
}

function lockDirectory(env: NodeJS.ProcessEnv = process.env): string {
  const socket = env.XENSTORED_PATH ?? (env.XENSTORED_RUNDIR && join(env.XENSTORED_RUNDIR, 'socket'));
  if (!socket || real(socket) === real(SYSTEM_XENSTORED)) return DIRECTORY;
  return join(dirname(real(socket)), 'xen-blockd');
}

function real(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

function refusal(error: unknown, directory: string): BlockdError {
  const { message } = error as Error;
  if (errorCode(error) !== 'EAGAIN') {
    return new BlockdError('ERR_LOCK', 'lock', message, { path: directory, cause: error });
  }
  const pid = /by (pid \d+)$/.exec(message)?.[1];
  const text = `xen-blockd runs already${pid === undefined ? '' : ` (${pid})`}: ${message}; stop it first`;
  return new BlockdError('ERR_RUNNING', 'lock', text, { path: directory, cause: error });
}
