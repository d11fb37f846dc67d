/**
 * node dist/blockdev.js [--quick] [--json FILE] [--file PATH] [--seconds N] [--rounds N]: the io_uring engine against
 * fio's, on the same file, alternating. PATH is made when it does not exist.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { makeFile, median, type PairedReads, pairReads, type Reads } from './blockdev-reads.js';

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    json: { type: 'string' },
    file: { type: 'string' },
    seconds: { type: 'string' },
    rounds: { type: 'string' },
  },
});
const seconds = Number(values.seconds ?? (values.quick ? 1 : 4));
const rounds = Number(values.rounds ?? (values.quick ? 3 : 7));
const path = values.file ?? join(tmpdir(), `xen-blockd-bench-${process.pid}.img`);
const made = !existsSync(path);

if (spawnSync('fio', ['--version']).status !== 0) {
  console.log('skipped: needs fio');
  process.exit(0);
}
if (made) await makeFile(path, values.quick ? 256 << 20 : 1 << 30);
try {
  const buffered = await pairReads(path, { direct: false, seconds, rounds });
  const direct = await pairReads(path, { direct: true, seconds, rounds });
  report('buffered', buffered);
  report('direct', direct);
  const result = { file_buffered_vs_fio_io_uring: buffered.ratio, file_direct_vs_fio_io_uring: direct.ratio };
  if (values.json) writeFileSync(values.json, `${JSON.stringify(result)}\n`);
} finally {
  if (made) rmSync(path);
}

function report(name: string, { ours, fio, ratio }: PairedReads): void {
  const figures = (reads: readonly Reads[]) =>
    `${Math.round(median(reads.map(({ iops }) => iops)))} reads/s, ${median(reads.map(({ cpuMicroseconds }) => cpuMicroseconds)).toFixed(2)} us of processor each`;
  console.log(`${name}: ours ${figures(ours)}; fio ${figures(fio)}; ratio ${ratio.toFixed(2)}`);
}
