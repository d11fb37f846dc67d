import { spawnSync } from 'node:child_process';
import { closeSync, constants, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestOptions } from 'vitest';
import { type DebianTool, find, isDebianTool } from './find.js';

/** Something that a test needs of the machine, and how to find out whether it is there. */
export interface Need {
  /** As it is in a title: `(needs io_uring)`. */
  readonly name: string;
  met(): boolean;
}

/** The need that `attempt` works: it is met where that does not throw. */
export function working(name: string, attempt: () => unknown): Need {
  return {
    name,
    met: () => {
      try {
        attempt();
        return true;
      } catch {
        return false;
      }
    },
  };
}

/** What no package brings. */
const MACHINE = {
  'holes in temporary files': hasHoles,
  Linux: () => process.platform === 'linux',
  'O_DIRECT for temporary files': hasDirectIo,
} satisfies Record<string, () => boolean>;

type MachineNeed = keyof typeof MACHINE;

interface Titled<Callback, Each> {
  (name: string, callback: Callback, timeout?: number): void;
  (name: string, options: TestOptions, callback: Callback): void;
  each: Each;
}

/** Vitest's functions for tests that are skipped where something is missing, and then say so in their titles. */
export interface Needs {
  /** The needs that are not met. */
  readonly missing: readonly string[];
  /** For titles made elsewhere: ` (needs fio)`, or empty. */
  readonly title: string;
  readonly it: Titled<() => unknown, typeof it.each>;
  readonly test: Titled<() => unknown, typeof it.each>;
  readonly describe: Titled<() => void, typeof describe.each>;
}

/**
 * `needs('fio', 'nbdcopy').it('copies', …)`: a test that runs where all of that is there. Programs and files are
 * those of debian-packages.json; `npm test` adds up the skipped tests by these names.
 */
export function needs(...all: (DebianTool | MachineNeed | Need)[]): Needs {
  const missing = all.filter((need) => !isMet(need)).map((need) => (typeof need === 'string' ? need : need.name));
  const title = missing.length === 0 ? '' : ` (needs ${missing.join(', ')})`;
  const skipped = missing.length > 0;
  const one = titled(it.skipIf(skipped), title) as Needs['it'];
  return { missing, title, it: one, test: one, describe: titled(describe.skipIf(skipped), title) as Needs['describe'] };
}

function isMet(need: DebianTool | MachineNeed | Need): boolean {
  if (typeof need !== 'string') return need.met();
  return isDebianTool(need) ? find(need) !== undefined : MACHINE[need]();
}

type Declare = (name: string, ...rest: never[]) => unknown;

function titled(api: Declare & { each: unknown }, title: string) {
  const each = api.each as (...cases: unknown[]) => Declare;
  return Object.assign((name: string, ...rest: never[]) => api(name + title, ...rest), {
    each:
      (...cases: unknown[]) =>
      (name: string, ...rest: never[]) =>
        each.apply(api, cases)(name + title, ...rest),
  });
}

function hasDirectIo(): boolean {
  if (constants.O_DIRECT === undefined) return false;
  const path = join(tmpdir(), `o-direct-${process.pid}`);
  try {
    closeSync(openSync(path, constants.O_CREAT | constants.O_RDWR | constants.O_DIRECT));
    return true;
  } catch {
    return false;
  } finally {
    rmSync(path, { force: true });
  }
}

function hasHoles(): boolean {
  const path = join(tmpdir(), `hole-${process.pid}`);
  writeFileSync(path, new Uint8Array(8192));
  const { status } = spawnSync('fallocate', ['--punch-hole', '--length', '4096', path]);
  rmSync(path);
  return status === 0;
}
