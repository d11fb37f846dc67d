import { LATENCY_BUCKETS } from '@xenpv/xen-block';

/**
 * The time within which `share` (0.99) of a histogram's requests were answered: the end of a bucket, in microseconds, so
 * that the true one is at most that and at least half of it. Infinity for the last bucket, which has no end; undefined
 * for no requests. Buckets are as DiskStatistics has them.
 */
export function percentile(buckets: readonly number[], share: number): number | undefined {
  const total = buckets.reduce((sum, count) => sum + count, 0);
  if (total <= 0) return undefined;
  let seen = 0;
  for (const [bucket, count] of buckets.entries()) {
    seen += count;
    if (seen >= share * total) return bucket === LATENCY_BUCKETS - 1 ? Number.POSITIVE_INFINITY : 2 ** bucket;
  }
  return Number.POSITIVE_INFINITY;
}

/** A percentile for a person: `<128 us`, `<4.1 ms`. */
export function formatPercentile(microseconds: number | undefined): string {
  if (microseconds === undefined) return '-';
  if (microseconds === Number.POSITIVE_INFINITY) return `>${formatMicroseconds(2 ** (LATENCY_BUCKETS - 2))}`;
  return `<${formatMicroseconds(microseconds)}`;
}

/** A time of a request: `85 us`, `1.2 ms`, `3.4 s`. */
export function formatMicroseconds(microseconds: number): string {
  if (microseconds < 1000) return `${microseconds.toFixed(0)} us`;
  if (microseconds < 1e6) return `${(microseconds / 1000).toFixed(1)} ms`;
  return `${(microseconds / 1e6).toFixed(1)} s`;
}
