import { ftruncateSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import type { Descriptor } from '../addon/addon.js';
import { errnoError, XenSysError } from '../errors.js';
import { openOwnFile } from './own-file.js';

/** A lock that the kernel lets go of when the process ends, however it ends. */
export interface FileLock extends Disposable {
  /** The locked file, as it was given to {@link lockFile}. */
  readonly path: string;
  /** Harmless when repeated. */
  release(): void;
}

const OP = 'lockFile';

/**
 * Locks a file, which is made if need be and stays for ever: a name that is removed could be locked twice. Whoever has
 * the lock has its process id in the file. It is not waited for.
 * Errors: EAGAIN another process has it, whose pid the message has; those of opening (ELOOP a symbolic link, EPERM
 * not this user's, ENOENT, EACCES); ERR_NO_ADDON.
 */
export function lockFile(path: string): FileLock {
  const file = openOwnFile(path, OP);
  try {
    const error = file.lock();
    if (error < 0) throw error === -constants.errno.EAGAIN ? inUse(path) : errnoError(error, OP, path);
    ftruncateSync(file.fd, 0);
    const pid = Buffer.from(`${process.pid}\n`);
    file.write(pid, pid.length);
    return new HeldLock(path, file);
  } catch (error) {
    file.close();
    throw error;
  }
}

class HeldLock implements FileLock {
  readonly #file: Descriptor;

  constructor(
    readonly path: string,
    file: Descriptor,
  ) {
    this.#file = file;
  }

  release(): void {
    this.#file.close();
  }

  [Symbol.dispose](): void {
    this.release();
  }
}

function inUse(path: string): XenSysError {
  const pid = Number.parseInt(readFileSync(path, 'latin1'), 10);
  // It has locked the file a moment ago and not written it yet.
  const holder = Number.isInteger(pid) ? `pid ${pid}` : 'another process';
  return new XenSysError('EAGAIN', OP, `${path} is locked by ${holder}`, { path });
}
