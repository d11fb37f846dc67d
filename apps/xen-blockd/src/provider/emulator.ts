import { statSync } from 'node:fs';
import { BlockdError, errorCode } from '../errors.js';

const PACKAGE = '@xenpv/emulator';

/**
 * Loads modules that need the emulator: a daemon that serves this machine's Xen does without, so it is installed beside
 * it by who wants it. Error: ERR_XEN, which says how.
 */
export async function withEmulator<T>(load: () => Promise<T>): Promise<T> {
  resolveLinks();
  try {
    return await load();
  } catch (cause) {
    if (!lacksEmulator(cause)) throw cause;
    const advice = `needs ${PACKAGE}, which is not installed: npm install ${PACKAGE}, beside xen-blockd (-g where that is)`;
    throw new BlockdError('ERR_XEN', 'load emulator', advice, { cause });
  }
}

/**
 * Node 20 leaves links in a module's path as they are when the last file that anybody asked about was a pipe or a socket, as
 * standard error is: where packages are linked, as pnpm does, theirs would be loaded once more, with classes of their own.
 */
function resolveLinks(): void {
  statSync('/');
}

/** Not where something else is missing that the emulator needs. */
function lacksEmulator(error: unknown): boolean {
  const code = errorCode(error);
  if (code !== 'MODULE_NOT_FOUND' && code !== 'ERR_MODULE_NOT_FOUND') return false;
  return [`'${PACKAGE}'`, `'${PACKAGE}/`].some((name) => (error as Error).message.includes(name));
}
