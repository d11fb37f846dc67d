import { constants, fstatSync } from 'node:fs';
import { constants as system } from 'node:os';
import { type Descriptor, loadAddon } from '../addon/addon.js';
import { errnoError, XenSysError } from '../errors.js';

/**
 * Opens a file to read and write, or makes it (mode 0600). What somebody else may have put there is refused, so that
 * nobody has a privileged process write elsewhere. Errors: ERR_NO_ADDON, ELOOP a symbolic link, EPERM a file of another
 * user, with another name too, or not a regular file, or another errno of open(2).
 */
export function openOwnFile(path: string, op: string): Descriptor {
  const { Descriptor } = loadAddon();
  // O_NONBLOCK: a FIFO in its place does not stop us.
  const { O_RDWR, O_CREAT, O_NOFOLLOW, O_NONBLOCK } = constants;
  const file = new Descriptor(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK);
  if (file.fd === -system.errno.ELOOP) throw refused('ELOOP', op, path, 'it is a symbolic link');
  if (file.fd < 0) throw errnoError(file.fd, op, path);
  const stats = fstatSync(file.fd);
  const problem = !stats.isFile()
    ? 'it is not a regular file'
    : stats.uid !== process.geteuid?.()
      ? `it belongs to user ${stats.uid}`
      : stats.nlink > 1
        ? 'it has another name (a hard link)'
        : undefined;
  if (problem === undefined) return file;
  file.close();
  throw refused('EPERM', op, path, problem);
}

function refused(code: 'ELOOP' | 'EPERM', op: string, path: string, problem: string): XenSysError {
  return new XenSysError(code, op, `${op}: ${path} is not used: ${problem}; remove it`, { path });
}
