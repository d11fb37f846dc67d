import { median } from '../../../scripts/lib/median.mjs';

/** Of a figure in pairs of runs: now over before, and what lies around the median of it in 95 of 100 such comparisons. */
export interface PairedRatio {
  readonly median: number;
  readonly low: number;
  readonly high: number;
}

export type Verdict = 'better' | 'worse' | 'no difference';

const CONFIDENCE = 0.95;
/** With fewer not even their extremes are wide enough for CONFIDENCE. */
export const FEWEST_PAIRS = 6;
/** Figures of which less is better, by the end of their names; of all others more is. */
const LESS_IS_BETTER = /_(bytes|mib|us|ms|p50_ratio)$/;

/**
 * The median and its confidence interval, from the order of the ratios alone: nothing is assumed of how they are
 * distributed, because a machine's bad moments are not.
 */
export function pairedRatio(ratios: readonly number[]): PairedRatio {
  if (ratios.length < FEWEST_PAIRS) throw new RangeError(`${ratios.length} pairs; at least ${FEWEST_PAIRS} are needed`);
  const sorted = [...ratios].sort((a, b) => a - b);
  const drop = outermost(sorted.length);
  return { median: median(sorted), low: sorted[drop] as number, high: sorted[sorted.length - 1 - drop] as number };
}

/** How many ratios may be left out at each end. */
function outermost(count: number): number {
  let term = 0.5 ** count;
  let below = term;
  let drop = 0;
  // What is below the interval has a binomial distribution, each ratio with a half.
  while (1 - 2 * (below + (term * (count - drop)) / (drop + 1)) >= CONFIDENCE) {
    term = (term * (count - drop)) / (drop + 1);
    below += term;
    drop++;
  }
  return drop;
}

/** `tolerance`: a share, by which a figure may differ, whatever the interval says. */
export function verdict(name: string, { median: middle, low, high }: PairedRatio, tolerance: number): Verdict {
  if ((low <= 1 && high >= 1) || Math.abs(middle - 1) <= tolerance) return 'no difference';
  return middle < 1 === LESS_IS_BETTER.test(name) ? 'better' : 'worse';
}
