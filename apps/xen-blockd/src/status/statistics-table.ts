import { ACCOUNTING_CLASSES, type DiskStatistics } from '@xenpv/xen-block';
import { formatBytes, formatTable } from './format.js';
import { formatPercentile, percentile } from './latency.js';
import { type Look, PLAIN } from './look.js';

/** A disk's counters as a table; classes without requests are left out. */
export function formatStatistics(statistics: DiskStatistics, look: Look = PLAIN): string {
  const used = ACCOUNTING_CLASSES.filter((name) => {
    const { operations, failed, invalid } = statistics[name];
    return operations + failed + invalid > 0;
  });
  const rows = used.map((name) => {
    const { operations, bytes, merged, failed, invalid, totalTimeNs, latency } = statistics[name];
    const mean = operations > 0 ? `${(totalTimeNs / operations / 1000).toFixed(0)} us` : '-';
    const times = [mean, ...[0.5, 0.99].map((share) => formatPercentile(percentile(latency.total, share)))];
    return [name, `${operations}`, formatBytes(bytes), `${merged}`, `${failed}`, `${invalid}`, ...times];
  });
  const header = ['', 'requests', 'data', 'merged', 'failed', 'invalid', 'mean time', 'p50', 'p99'];
  const { events, notifications, passes, starved, waiting, bufferBytes, overlooked, inexact, throttledTimeNs } =
    statistics;
  const footer = `  events in ${events}, out ${notifications}; ring passes ${passes}; waited for memory ${starved}`;
  const now = waiting > 0 ? `; waiting now ${waiting}, with ${formatBytes(bufferBytes)} of memory` : '';
  const throttled = throttledTimeNs > 0 ? `; waited for limits ${(throttledTimeNs / 1e9).toFixed(1)} s` : '';
  // Never, unless a frontend sends no events or something is wrong.
  const late = overlooked > 0 ? `; overlooked ${overlooked}` : '';
  const wrong = inexact > 0 ? `; wrong results of the storage ${inexact}` : '';
  return `${formatTable([header, ...rows], { look })}\n${footer}${now}${throttled}${late}${wrong}`;
}
