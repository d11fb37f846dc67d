import type { ClassStatistics, LatencyPhase } from '@xenpv/xen-block';
import type { HistogramValues } from './text.js';

/** Buckets by their power of two, in microseconds: from 32 us to 8.4 s, and the rest. */
const FIRST = 5;
const LAST = 23;

/** One phase of a class's requests; `sumNs` is the sum of their times. Each bucket is twice as wide as the one before. */
export function durations({ latency }: ClassStatistics, phase: LatencyPhase, sumNs: number): HistogramValues {
  const counts = latency[phase];
  const buckets: [number, number][] = [];
  let below = 0;
  for (let b = 0; b < counts.length; b++) {
    below += counts[b];
    if (b >= FIRST && b <= LAST) buckets.push([2 ** b / 1e6, below]);
  }
  buckets.push([Number.POSITIVE_INFINITY, below]);
  return { buckets, sum: sumNs / 1e9 };
}
