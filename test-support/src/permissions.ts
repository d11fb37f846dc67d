/** For tests of missing permissions, which do not bind root. */
import { find } from './find.js';
import type { Need } from './needs.js';

const NOBODY = 65534;
/** The capabilities by which root passes permissions. */
const OVERRIDES = '-dac_override,-dac_read_search';

const isRoot = process.getuid?.() === 0;

/** What {@link boundByPermissions} needs. */
export const setpriv: Need = { name: 'setpriv', met: () => !isRoot || find('setpriv') !== undefined };

/** The command that runs a program so that the permissions of files bind it: `[program, arguments]`. */
export function boundByPermissions(program: string, args: readonly string[]): [string, string[]] {
  if (!isRoot) return [program, [...args]];
  return ['setpriv', ['--inh-caps', OVERRIDES, '--bounding-set', OVERRIDES, program, ...args]];
}

/** Runs `work` in this process as a user whom permissions bind: nobody instead of root. Not for worker threads. */
export async function withoutRoot(work: () => Promise<void>): Promise<void> {
  if (!isRoot) return work();
  process.seteuid!(NOBODY);
  try {
    await work();
  } finally {
    process.seteuid!(0);
  }
}
