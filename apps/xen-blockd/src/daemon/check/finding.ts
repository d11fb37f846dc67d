import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ProcessPrivileges } from '../../privileges/process-privileges.js';

/** One thing looked for on this machine. */
export interface Finding {
  readonly name: string;
  readonly ok: boolean;
  /** Whether the daemon cannot run without it. */
  readonly needed: boolean;
  /** The thing that was found, or the problem. */
  readonly detail: string;
  /** What to do, where something is to be done. */
  readonly remedy?: string;
  /** Of the error, where there was one: `ERR_NO_DEVICE`, `EACCES`. */
  readonly code?: string;
  /** Of a daemon or storage helper that runs. */
  readonly privileges?: ProcessPrivileges;
  /** Of the unit: from 0, nothing of the machine is open to it, to 10. */
  readonly exposure?: number;
}

/** All is well. */
export const good = (name: string, detail: string): Finding => ({ name, ok: true, needed: false, detail });

/** The daemon runs, and something is not as it should be. */
export const note = (name: string, detail: string, remedy: string): Finding => ({
  name,
  ok: false,
  needed: false,
  detail,
  remedy,
});

/** The daemon cannot serve. */
export const missing = (name: string, detail: string, remedy: string): Finding => ({
  ...note(name, detail, remedy),
  needed: true,
});

/** The text of a file below `root`, which is / but for tests; undefined where it cannot be read. */
export function textOf(root: string, path: string): string | undefined {
  try {
    return readFileSync(join(root, path), 'utf8').trim();
  } catch {
    return undefined;
  }
}
