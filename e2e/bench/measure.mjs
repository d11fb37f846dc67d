/**
 * The scoreboard's measurements: one guest has a disk each from Linux's xen-blkback, QEMU's qdisk, xen-blockd and the floor, and
 * runs each job on all of them before the next, so that what changes on the machine meanwhile changes for all.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Daemon } from '../dom0/daemon.mjs';
import { Domain } from '../dom0/domain.mjs';
import { log, report } from '../dom0/report.mjs';
import { sh } from '../dom0/shell.mjs';
import { FloorDisk } from './floor/floor-disk.mjs';
import { recordTrace } from './ftrace.mjs';
import { STORAGES } from './storages.mjs';

/** Seconds of a job that is traced, before it and while it is. */
const TRACE = { job: 6, warm: 3, length: 0.5 };

const PROFILE = ['--cpu-prof', '--cpu-prof-dir=/tmp/logs', '--cpu-prof-interval=500'];

const JOBS = {
  rr1: '--rw=randread --bs=4k --iodepth=1',
  rr32: '--rw=randread --bs=4k --iodepth=32',
  rw32: '--rw=randwrite --bs=4k --iodepth=32',
  sr: '--rw=read --bs=256k --iodepth=8',
  sw: '--rw=write --bs=256k --iodepth=8',
};

export async function main({ rounds, seconds, backends, jobs, args, profile, trace, storage }) {
  const { prepare, attach = async () => {}, besides = [], backends: all } = STORAGES[storage];
  const plan = Object.entries(JOBS).filter(([job]) => !jobs || jobs.includes(job));
  const chosen = all.filter(({ name }) => !backends || backends.includes(name));
  await prepare(chosen);
  const daemon = await Daemon.start({ types: 'vbd3', args, logLevel: 'info', nodeArgs: profile ? PROFILE : [] });
  const known = chosen.filter(({ line }) => line);
  const disks = [...known.map(({ vdev, line }) => `vdev=${vdev},access=rw,${line}`), ...besides];
  const guest = await Domain.guest('bench', { fio: true, disks });
  await attach(guest.domid, chosen);
  const floors = [];
  for (const disk of chosen.filter(({ kind }) => kind)) floors.push(await FloorDisk.attach(guest.domid, disk));
  for (const { vdev } of chosen) await guest.disk(vdev);
  log((await guest.sh('dmesg | grep blkfront')).trim());
  // The first round does not count: compilers need a moment, V8's and the emulator's.
  for (let round = 0; round <= rounds; round++) {
    for (const [job, options] of plan) {
      for (const { name, vdev } of turned(chosen, round)) {
        const results = await measure(guest, vdev, options, seconds);
        if (round > 0) report({ type: 'measured', job, backend: name, round, ...results });
      }
    }
  }
  for (const [job, options] of trace ? plan : []) {
    for (const { name, vdev } of chosen) await traceJob(guest, vdev, options, `/tmp/logs/trace-${name}-${job}.txt`);
  }
  daemon.check();
  for (const floor of floors) await floor.end();
  await guest.shutdown();
  await daemon.stop();
}

/** Nobody is always first. */
function turned(list, by) {
  return list.map((_, i) => list[(i + by) % list.length]);
}

async function measure(guest, vdev, options, seconds) {
  const common = '--ioengine=libaio --direct=1 --time_based --group_reporting --lat_percentiles=1 --clat_percentiles=0';
  const fio = `fio --name=job --filename=/dev/${vdev} ${common} --ramp_time=1 --runtime=${seconds} ${options} --output-format=json`;
  const before = await dom0Seconds();
  const output = await guest.sh(fio, { timeout: seconds * 10 + 60 });
  // What a backend leaves in the page cache is part of its work, not of the next one's.
  await sh('sync');
  const cpu = (await dom0Seconds()) - before;
  const job = JSON.parse(output.slice(output.indexOf('{'))).jobs[0];
  const { iops, bw_bytes: bandwidth, lat_ns: latency, total_ios: total } = job.read.total_ios ? job.read : job.write;
  return {
    iops: round(iops, 1),
    mbps: round(bandwidth / 1e6, 2),
    p50_us: round(latency.percentile['50.000000'] / 1000, 1),
    p99_us: round(latency.percentile['99.000000'] / 1000, 1),
    // The ramp's second costs CPU too but its requests are not in the total.
    dom0_cpu_s_per_kio: round((cpu / (total * ((seconds + 1) / seconds))) * 1000, 4),
  };
}

async function traceJob(guest, vdev, options, file) {
  const job = measure(guest, vdev, options, TRACE.job);
  await sleep(TRACE.warm * 1000);
  await recordTrace(file, TRACE.length);
  await job;
}

const round = (value, digits) => Number(value.toFixed(digits));

/** CPU seconds that dom0's virtual CPU has run, as Xen counts them. */
async function dom0Seconds() {
  return Number((await sh('xl list 0')).trim().split('\n').at(-1).split(/\s+/).at(-1));
}
