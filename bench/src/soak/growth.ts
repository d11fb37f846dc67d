import { median } from '../../../scripts/lib/median.mjs';
import type { Counts, Sample } from './sample.js';

/** How much larger the last third of a run may be than the first, in MiB. Above it counts as a leak. */
const MOST_MEMORY_MIB = 12;
/** How many times as many mappings: the engine maps and unmaps pages of its heap. */
const MOST_MAPPINGS = 1.1;

/** What has grown from the first third of a run to the last, in words. The first tenth is a warm-up. */
export function growthOf(samples: readonly Sample[]): string[] {
  const warm = samples.slice(Math.ceil(samples.length / 10));
  const third = Math.floor(warm.length / 3);
  if (third === 0) return [];
  const [first, last] = [warm.slice(0, third), warm.slice(-third)];
  const grown: string[] = [];
  for (const name of Object.keys(warm[0].counts) as (keyof Counts)[]) {
    const of = (part: readonly Sample[]) => part.map(({ counts }) => counts[name]);
    const [before, after] = [Math.max(...of(first)), median(of(last))];
    if (after > before * (name === 'mappings' ? MOST_MAPPINGS : 1))
      grown.push(`${name}: at most ${before} in the first third, mostly ${after} in the last`);
  }
  for (const name of ['memoryMiB', 'helperMemoryMiB'] as const) {
    const of = (part: readonly Sample[]) => median(part.map((sample) => sample[name]));
    const [before, after] = [of(first), of(last)];
    if (after - before > MOST_MEMORY_MIB) grown.push(`${name}: ${before} in the first third, ${after} in the last`);
  }
  return grown;
}
