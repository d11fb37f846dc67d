import { quoted, XenstoreError } from '../errors.js';
import { XS_MAX_ABSOLUTE_PATH, XS_MAX_RELATIVE_PATH } from './wire.js';

const PATH = /^(?:\/|\/?[A-Za-z0-9_@-]+(?:\/[A-Za-z0-9_@-]+)*)$/;

/** Names that stand for an event instead of a node: `@introduceDomain`, `@releaseDomain`, `@releaseDomain/5`. */
const SPECIAL = /^@(?:introduceDomain|releaseDomain)(?:\/(?:0|[1-9][0-9]*))?$/;

/**
 * What is wrong with `path` as the name of a node (docs/misc/xenstore.txt), or undefined: letters, digits and
 * `-/_@`, no empty component, no slash at the end, at most 3072 bytes, or 2048 when it does not begin with a slash.
 */
export function pathProblem(path: string): string | undefined {
  if (path.length === 0) return 'the path is empty';
  const maximum = path[0] === '/' ? XS_MAX_ABSOLUTE_PATH : XS_MAX_RELATIVE_PATH;
  if (path.length > maximum) return `the path is ${path.length} bytes long, at most ${maximum} are allowed`;
  if (PATH.test(path)) return undefined;
  if (path.includes('//')) return 'the path has an empty component';
  if (path.endsWith('/')) return 'the path ends with a slash';
  return 'a path has only letters, digits and - / _ @';
}

/** The path of a child. */
export function childPath(path: string, name: string): string {
  return path.endsWith('/') ? `${path}${name}` : `${path}/${name}`;
}

/** Whether `path` is a special watch path such as `@releaseDomain`. */
export function isSpecialPath(path: string): boolean {
  return SPECIAL.test(path);
}

/** The error of an operation on `path`, or undefined when `path` may be the name of a node. */
export function pathError(path: string, op: string): XenstoreError | undefined {
  const problem = pathProblem(path);
  return problem === undefined ? undefined : new XenstoreError('ERR_INVALID_PATH', op, problem, { path: quoted(path) });
}

/** Throws `ERR_INVALID_PATH` unless `path` may be the name of a node. */
export function checkPath(path: string, op: string): void {
  const error = pathError(path, op);
  if (error !== undefined) throw error;
}
