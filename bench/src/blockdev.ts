/**
 * node dist/blockdev.js [--quick] [--json FILE] [--file PATH] [--seconds N] [--rounds N]: the io_uring engine against
 * fio's, on the same file, alternating. PATH is made when it does not exist.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { BlockDeviceError } from '@xenpv/blockdev';
import { median } from '../../scripts/lib/median.mjs';
import { makeFile, type PairedReads, pairReads, type Reads } from './reads/blockdev-reads.js';

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
const results: Record<string, number> = {};
if (made) await makeFile(path, values.quick ? 256 << 20 : 1 << 30);
try {
  await measure('buffered', { direct: false });
  await measure('direct', { direct: true });
  if (values.json) writeFileSync(values.json, `${JSON.stringify(results)}\n`);
} finally {
  if (made) rmSync(path);
}

async function measure(name: string, { direct }: { direct: boolean }): Promise<void> {
  let reads: PairedReads;
  try {
    reads = await pairReads(path, { direct, seconds, rounds });
  } catch (error) {
    // No io_uring here, or a file system without O_DIRECT: nothing to compare.
    if (!(error instanceof BlockDeviceError)) throw error;
    console.log(`${name}: skipped: ${error.message}`);
    return;
  }
  results[`file_${name}_vs_fio_io_uring`] = Number(reads.ratio.toFixed(3));
  console.log(`${name}: ours ${describe(reads.ours)}; fio ${describe(reads.fio)}; ratio ${reads.ratio.toFixed(2)}`);
}

function describe(reads: readonly Reads[]): string {
  const iops = Math.round(median(reads.map((each) => each.iops)));
  const cpu = median(reads.map((each) => each.cpuMicroseconds));
  return `${iops} reads/s, ${cpu.toFixed(2)} us of processor each`;
}
