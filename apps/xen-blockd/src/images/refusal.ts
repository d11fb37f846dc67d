import { sep } from 'node:path';
import { BlockdError } from '../errors.js';

/** ERR_IMAGE: a target that is not served. */
export function refusal(target: string, reason: string, cause?: unknown): BlockdError {
  return new BlockdError('ERR_IMAGE', 'open image', `${target}: ${reason}`, { path: target, cause });
}

/** What an image is that is in none of the directories which the configuration allows. */
export function outsideOf(directories: readonly string[]): string {
  return `is not in one of image-directories (${directories.join(', ')})`;
}

/** Whether a path, in which no link is left, is below a directory. */
export function isBelow(path: string, directory: string): boolean {
  return path.startsWith(directory.endsWith(sep) ? directory : directory + sep);
}
