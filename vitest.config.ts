import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { configDefaults, defineConfig } from 'vitest/config';
import { LongestFirst } from './scripts/lib/longest-first.mjs';
import { ROOT, workspacePackages } from './scripts/lib/workspace.mjs';

/**
 * How long a test may take, in milliseconds: enough for the slowest machine. What is tested is what is done, not how fast;
 * a test that hangs ends all the same.
 */
const limits = { testTimeout: 60_000, hookTimeout: 60_000, expect: { poll: { timeout: 20_000 } } };

/** Three on two processors as well: two thirds of the time of the longest tests is waiting, for disks and other processes. */
const WORKERS = Math.max(3, availableParallelism() - 1);

/** What is built of other packages is loaded by Node itself: vitest would transform it anew for each package's tests. */
const BUILT = /\/packages\/[^/]+\/dist\//;

const workspace = {
  projects: workspacePackages().map(project),
  maxWorkers: WORKERS,
  sequence: { sequencer: LongestFirst },
};

/** Every package's tests in one run from the root. Vitest finds this file from inside a package too, which then runs alone. */
export default defineConfig({
  test: process.cwd() === ROOT ? workspace : limits,
});

function project(
  { folder, manifest }: { folder: string; manifest: { name?: string } },
  _: number,
  all: readonly { folder: string }[],
) {
  // A package in another one's folder has its tests run once.
  const inside = all.filter((other) => other.folder.startsWith(`${folder}/`));
  const exclude = [...configDefaults.exclude, ...inside.map((other) => `${other.folder.slice(folder.length + 1)}/**`)];
  return {
    test: {
      ...limits,
      root: join(ROOT, folder),
      name: manifest.name,
      exclude,
      server: { deps: { external: [BUILT] } },
    },
  };
}
