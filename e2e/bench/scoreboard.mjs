/** The results of a benchmark as a table, and how xen-blockd compares. */
import { median } from '../../scripts/lib/median.mjs';

const OURS = 'xen-blockd';
/** Programs that serve disks, and what no program goes below: e2e/bench/floor. */
const PEERS = ['qdisk', 'xen-blkback', 'floor', 'null'];
/** By what a job is compared. */
const MEASURE = { rr1: 'iops', rr32: 'iops', rw32: 'iops', sr: 'mbps', sw: 'mbps' };
const TITLES = {
  rr1: '4k randread, depth 1',
  rr32: '4k randread, depth 32',
  rw32: '4k randwrite, depth 32',
  sr: '256k read, depth 8',
  sw: '256k write, depth 8',
};

function medianOf(jobs, job, backend, figure) {
  const found = jobs.filter((entry) => entry.job === job && entry.backend === backend);
  return found.length > 0 ? median(found.map((entry) => entry[figure])) : undefined;
}

/** `{ rr1: { qdisk: 1.2, 'xen-blkback': 0.9 }, ... }`: the median of xen-blockd over the peer's. */
export function ratios(jobs) {
  const result = {};
  for (const [job, figure] of Object.entries(MEASURE)) {
    const ours = medianOf(jobs, job, OURS, figure);
    for (const peer of PEERS) {
      const theirs = medianOf(jobs, job, peer, figure);
      if (ours === undefined || theirs === undefined) continue;
      result[job] ??= {};
      result[job][peer] = Number((ours / theirs).toFixed(3));
    }
  }
  return result;
}

/** A Markdown table of the medians. */
export function scoreboard(jobs) {
  const against = ratios(jobs);
  const rows = [['job', 'backend', 'IOPS', 'MB/s', 'p50 µs', 'p99 µs', 'dom0 CPU s per 1000', 'xen-blockd is']];
  for (const job of Object.keys(MEASURE)) {
    for (const backend of [...PEERS.toReversed(), OURS]) {
      const figure = (name) => medianOf(jobs, job, backend, name);
      if (figure('iops') === undefined) continue;
      const ratio = against[job]?.[backend];
      const cells = [
        Math.round(figure('iops')),
        figure('mbps').toFixed(1),
        Math.round(figure('p50_us')),
        Math.round(figure('p99_us')),
      ];
      rows.push([
        TITLES[job],
        backend,
        ...cells.map(String),
        figure('dom0_cpu_s_per_kio').toFixed(3),
        ratio ? `${ratio.toFixed(2)} times it` : '',
      ]);
    }
  }
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const lines = rows.map((row) => `| ${row.map((cell, column) => cell.padEnd(widths[column])).join(' | ')} |`);
  lines.splice(1, 0, `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`);
  return lines.join('\n');
}
