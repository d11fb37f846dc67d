import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { Script, constants as vmConstants } from 'node:vm';

/** The exit code of what ends unexpectedly. */
const FAILURE = 1;
/** Of this program and of others, such as the one before an upgrade. */
const KEPT_FILES = 8;
const EXTENSION = '.code';

export interface CachedProgram<T> {
  /** What the program exports. */
  readonly exports: T;
  /** Its code came from the cache. */
  readonly cached: boolean;
  /** The program works. To be called soon after {@link loadProgram}: another start may find its code again. */
  works(): void;
  /** Keeps the functions that were compiled until now for the next start, unless they came from there. Takes some 10 ms. */
  keep(): void;
}

/**
 * Loads a CommonJS module of one file, with V8's byte code from an earlier process where `directory` has it: guests wait
 * while a daemon starts, and a third of its start is compiling. V8 itself refuses what
 * another version of it made; a file's name says which program it is of. The directory is made for this user alone;
 * without one, or where somebody else may write there, nothing is read or kept.
 *
 * What was kept is taken away while the program starts, and put back by {@link CachedProgram.works} or at an orderly end:
 * a process that dies of it is followed by one that does without.
 */
export function loadProgram<T>(path: string, directory: string | undefined): CachedProgram<T> {
  const { source, identity } = readSource(path);
  const file = directory === undefined ? undefined : join(directory, identity + EXTENSION);
  const taken = file === undefined ? undefined : takeKept(file);
  const script = new Script(`(function (exports, require, module, __filename, __dirname) { ${source}\n});`, {
    filename: path,
    cachedData: taken,
    importModuleDynamically: vmConstants?.USE_MAIN_CONTEXT_DEFAULT_LOADER ?? importModule,
  });
  const cached = taken !== undefined && script.cachedDataRejected === false;
  const putBack = () => {
    if (file !== undefined && cached) ignoringErrors(() => renameSync(inUse(file), file));
  };
  const atEnd = (code: number) => {
    if (code !== FAILURE) putBack();
  };
  if (cached) process.once('exit', atEnd);
  const module = { exports: {} as T };
  script.runInThisContext()(module.exports, createRequire(path), module, path, dirname(path));
  return {
    exports: module.exports,
    cached,
    works: () => {
      process.off('exit', atEnd);
      putBack();
    },
    keep: () => {
      if (file !== undefined && !cached) ignoringErrors(() => write(file, () => script.createCachedData()));
    },
  };
}

/** The text of the program, which its build keeps in ASCII, and which file it is: an upgrade makes another one. */
function readSource(path: string): { readonly source: string; readonly identity: string } {
  const fd = openSync(path, 'r');
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = fstatSync(fd, { bigint: true });
    const numbers = [dev, ino, size, mtimeNs, ctimeNs].map((number) => number.toString(36));
    return { source: readFileSync(fd, 'latin1'), identity: `${process.version}-${process.arch}-${numbers.join('-')}` };
  } finally {
    closeSync(fd);
  }
}

/** What is read there is run: nobody else may have written it. */
function isOurs(directory: string): boolean {
  try {
    const { uid, mode } = lstatSync(directory);
    return uid === process.geteuid?.() && (mode & (constants.S_IFMT | 0o022)) === constants.S_IFDIR;
  } catch {
    return false;
  }
}

const inUse = (file: string) => `${file}.in-use`;

function takeKept(file: string): Buffer | undefined {
  if (!isOurs(dirname(file))) return undefined;
  try {
    renameSync(file, inUse(file));
    const fd = openSync(inUse(file), constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      const { uid, mode } = fstatSync(fd);
      const isSafe = uid === process.geteuid?.() && (mode & (constants.S_IFMT | 0o022)) === constants.S_IFREG;
      return isSafe ? readFileSync(fd) : undefined;
    } finally {
      closeSync(fd);
    }
  } catch {
    return undefined;
  }
}

function write(file: string, code: () => Buffer): void {
  const directory = dirname(file);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  if (!isOurs(directory)) return;
  const partial = `${file}.${process.pid}`;
  try {
    writeFileSync(partial, code(), { mode: 0o600, flag: 'wx' });
    renameSync(partial, file);
  } catch (error) {
    rmSync(partial, { force: true });
    throw error;
  }
  removeOldest(directory);
}

/** Files of other programs, of those that were killed while they wrote, and of those that died of theirs. */
function removeOldest(directory: string): void {
  const files = readdirSync(directory)
    .filter((name) => name.includes(EXTENSION))
    .map((name) => join(directory, name))
    .map((path) => ({ path, time: statSync(path).mtimeMs }))
    .sort((a, b) => b.time - a.time);
  for (const { path } of files.slice(KEPT_FILES)) rmSync(path, { force: true });
}

/** A cache that does not work costs time only. */
function ignoringErrors(work: () => void): void {
  try {
    work();
  } catch {}
}

/** For versions of Node that cannot be told to use their own. */
function importModule(specifier: string): Promise<unknown> {
  return import(specifier);
}
