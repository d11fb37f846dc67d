import { statSync } from 'node:fs';
import { join, relative } from 'node:path';
import { BaseSequencer } from 'vitest/node';
import { ROOT } from './workspace.mjs';

/** The longest files of a clone that has not run its tests yet, the longest first. */
const LONGEST = [
  'bench/src/hostile/mutants/mutants.test.ts',
  'apps/xen-blockd/src/images/killed.test.ts',
  'packages/emulator/src/threads/threads.test.ts',
  'apps/xen-blockd/src/embedded/gone-guest.test.ts',
  'apps/xen-blockd/src/daemon/hung-storage.test.ts',
  'bench/src/bytes/planted.test.ts',
  'bench/src/hostile.test.ts',
].map((file) => join(ROOT, file));

/**
 * The order of test files: the longest first, of whichever package. Vitest would go package by package, by name: tests that
 * wait would run beside each other at the end, and tests that work at the beginning.
 */
export class LongestFirst extends BaseSequencer {
  async sort(files) {
    // One that has another name now would be among the last, and nobody would see it.
    for (const path of LONGEST) statSync(path);
    const ranked = files.map((file) => ({ file, rank: this.#rank(file) }));
    return ranked.sort((a, b) => compare(a.rank, b.rank)).map(({ file }) => file);
  }

  /** What failed, what is known to be long though it was not run, what took long, what is large: each before the next. */
  #rank({ project, moduleId }) {
    const { cache, config } = this.ctx;
    const key = `${project.name}:${relative(config.root, moduleId)}`;
    const before = cache.getFileTestResults(key);
    const known = before || !LONGEST.includes(moduleId) ? 0 : LONGEST.length - LONGEST.indexOf(moduleId);
    return [Number(before?.failed ?? false), known, before?.duration ?? 0, cache.getFileStats(key)?.size ?? 0];
  }
}

function compare(a, b) {
  const at = a.findIndex((value, i) => value !== b[i]);
  return at < 0 ? 0 : b[at] - a[at];
}
