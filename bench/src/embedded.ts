/**
 * node dist/embedded.js [--quick] [--json FILE]: the layers alone, and all of them together on the embedded host.
 */
import { rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { compareHosts } from './embedded/hosts.js';
import { measureDecoding, measureGrantCopy, measureRingAlone } from './embedded/layers.js';
import { measureIdle, measureRing } from './embedded/measures.js';
import { compareWithStorageDaemon } from './embedded/storage-daemon.js';
import { isInstalled } from './program/is-installed.js';
import { makeFile } from './reads/blockdev-reads.js';

const { values } = parseArgs({ options: { quick: { type: 'boolean', default: false }, json: { type: 'string' } } });
const quick = values.quick;
const rounds = quick ? 3 : 7;
const results: Record<string, number> = {};

function row(name: string, value: string): void {
  console.log(`  ${name.padEnd(62)} ${value}`);
}
const thousands = (value: number) => Math.round(value).toLocaleString('en');

console.log('layers alone');
row('ring: a request and its response, both ends', `${measureRingAlone(rounds).toFixed(0)} ns`);
row('blkif: all fields of a request with 11 segments', `${measureDecoding(rounds).nanoseconds.toFixed(0)} ns`);
row('emulator: grant copy of a page', `${(await measureGrantCopy(rounds)).toFixed(0)} ns`);

console.log('together: guest on another thread, null engine, 4 KiB reads');
for (const depth of [1, 32, 512]) {
  const ring = await measureRing({ requests: (quick ? 400 : 2000) * 1000 * (depth === 1 ? 0.05 : 1), rounds, depth });
  row(`depth ${depth}, requests/s`, `${thousands(ring.requestsPerSecond)} (${ring.batch.toFixed(1)} a pass)`);
  row(`depth ${depth}, requests/s for each core of the backend`, thousands(ring.perCore));
  const of = depth === 512 ? '' : `_depth_${depth}`;
  results[`ring${of}_requests_per_s_per_core`] = Math.round(ring.perCore);
  results[`ring${of}_requests_per_s`] = Math.round(ring.requestsPerSecond);
}

console.log('the same, on a host in a folder and on one that is of this process alone');
for (const depth of [1, 32]) {
  const hosts = await compareHosts({ seconds: quick ? 0.5 : 2, rounds, depth });
  results[`folder_vs_own_depth_${depth}`] = Number(hosts.ratio.toFixed(3));
  row(
    `depth ${depth}, requests/s: own, folder, ratio`,
    `${thousands(hosts.own)}, ${thousands(hosts.folder)}, ${hosts.ratio.toFixed(2)}`,
  );
}

console.log('many disks');
const idle = await measureIdle(quick ? 200 : 1000);
results.idle_disk_bytes = Math.round(idle.bytes);
results.attach_per_s = Math.round(idle.attachPerSecond);
row('memory of an idle disk, with its nodes in the embedded xenstored', `${(idle.bytes / 1024).toFixed(1)} KiB`);
row('attaches a second, from the toolstack to Connected', idle.attachPerSecond.toFixed(0));
row('processor time of all idle disks', `${idle.cpuPercent.toFixed(1)} %`);

const missing = ['qemu-storage-daemon', 'fio'].filter((program) => !isInstalled(program));
console.log('a file, 4 KiB random reads at depth 32, page cache');
if (missing.length > 0) row('against qemu-storage-daemon', `skipped: needs ${missing.join(', ')}`);
else await compare();

if (values.json) writeFileSync(values.json, `${JSON.stringify(results)}\n`);

async function compare(): Promise<void> {
  const path = join(tmpdir(), `xen-blockd-bench-${process.pid}.img`);
  await makeFile(path, quick ? 128 << 20 : 512 << 20);
  try {
    const { ours, theirs, ratio } = await compareWithStorageDaemon(path, { seconds: quick ? 1 : 3, rounds });
    results.file_vs_qemu_storage_daemon = Number(ratio.toFixed(3));
    row('xen-blockd: a guest, through its ring', `${thousands(ours)} reads/s`);
    row('qemu-storage-daemon: fio, through NBD', `${thousands(theirs)} reads/s`);
    row('ratio', ratio.toFixed(2));
  } finally {
    rmSync(path);
  }
}
