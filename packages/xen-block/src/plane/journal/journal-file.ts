/** The files of journals: one has its name only when it is whole, and what is there is never lengthened or made. */
import { existsSync, lstatSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { mapSharedFile, type SharedFile } from '@xenpv/xen-sys';
import { errorCode } from '@xenpv/xenbus';
import { XenBlockError } from '../../errors.js';
import { HEADER_WORDS } from './layout.js';

/** Behind the name of a file that is being made. */
export const NEW = '.new';

/** The journal that is there, or undefined. Errors: ERR_JOURNAL, there is something that cannot be read. */
export function openJournalFile(path: string): SharedFile | undefined {
  try {
    const { size } = lstatSync(path);
    if (size < 4 * HEADER_WORDS) throw new Error('it is cut short');
    return mapSharedFile(path, size - (size % 4));
  } catch (cause) {
    if (errorCode(cause) === 'ENOENT') return undefined;
    throw failed(path, cause);
  }
}

/**
 * Makes a journal of so many bytes in place of one that is there, from one instant to the next. `write` is given its
 * words, all 0. Errors: ERR_JOURNAL; what was there is gone then, as it is of another connection.
 */
export function createJournalFile(path: string, bytes: number, write: (words: Int32Array) => void): SharedFile {
  const begun = path + NEW;
  let file: SharedFile | undefined;
  try {
    file = mapNew(begun, bytes, path);
    write(new Int32Array(file.buffer));
    renameSync(begun, path);
    return file;
  } catch (cause) {
    file?.close();
    for (const name of [begun, path]) removeJournalFile(name);
    throw failed(path, cause);
  }
}

/** In a folder without room for two, the one that is there makes room: it means nothing any more. */
function mapNew(begun: string, bytes: number, old: string): SharedFile {
  rmSync(begun, { force: true });
  try {
    return mapSharedFile(begun, bytes);
  } catch (error) {
    if (errorCode(error) !== 'ENOSPC' || !existsSync(old)) throw error;
    rmSync(old);
    return mapSharedFile(begun, bytes);
  }
}

/**
 * Whether a journal of so many bytes could be made now, by making a file of that size. A folder that is gone is made
 * anew: a journal that is missing was in it.
 */
export function canCreateJournalFile(path: string, bytes: number): boolean {
  const begun = path + NEW;
  try {
    if (!existsSync(dirname(path))) mkdirSync(dirname(path), { mode: 0o700 });
    rmSync(begun, { force: true });
    mapSharedFile(begun, bytes).close();
    return true;
  } catch {
    return false;
  } finally {
    removeJournalFile(begun);
  }
}

/** False if it stays. It is of a connection that is over then: nobody adopts it. */
export function removeJournalFile(path: string): boolean {
  try {
    rmSync(path, { force: true });
    return true;
  } catch {
    return false;
  }
}

function failed(path: string, cause: unknown): XenBlockError {
  return new XenBlockError('ERR_JOURNAL', 'connect', (cause as Error).message, { path, cause });
}
