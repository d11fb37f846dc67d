/**
 * The scoreboard's measurements: one guest has the same RAM disk three times, from Linux's xen-blkback, QEMU's qdisk
 * and xen-blockd, and runs the same jobs on each in turn.
 */
import { Daemon } from './daemon.mjs';
import { Domain } from './domain.mjs';
import { log, report } from './report.mjs';
import { sh } from './shell.mjs';

const DISK_MIB = 256;
const DEVICE = '/dev/ram0';

/** What serves which disk of the guest. `w!`: three backends share the device, on purpose. */
const BACKENDS = [
  { name: 'xen-blkback', vdev: 'xvda', disk: 'backendtype=phy' },
  { name: 'qdisk', vdev: 'xvdb', disk: 'backendtype=qdisk' },
  { name: 'xen-blockd', vdev: 'xvdc', disk: 'backendtype=tap,script=block-xen-blockd' },
];

const JOBS = [
  { name: 'rr1', rw: 'randread', bs: '4k', depth: 1 },
  { name: 'rr32', rw: 'randread', bs: '4k', depth: 32 },
  { name: 'rw32', rw: 'randwrite', bs: '4k', depth: 32 },
  { name: 'sr', rw: 'read', bs: '256k', depth: 8 },
  { name: 'sw', rw: 'write', bs: '256k', depth: 8 },
];

export async function main({ rounds, seconds, backends, jobs }) {
  await sh(`modprobe brd rd_nr=1 rd_size=${DISK_MIB * 1024}; modprobe xen-blkback`);
  await sh(`dd if=/dev/urandom of=${DEVICE} bs=1M count=${DISK_MIB} 2>/dev/null`);
  const daemon = await Daemon.start({ types: 'vbd3' });
  const line = ({ vdev, disk }) => `vdev=${vdev},format=raw,access=rw,${disk},target=${DEVICE}`;
  const chosen = BACKENDS.filter(({ name }) => !backends || backends.includes(name));
  const guest = await Domain.guest('bench', { fio: true, disks: [] });
  for (const backend of chosen) {
    await attach(guest, backend, line(backend));
  }
  log((await guest.sh('dmesg | grep blkfront')).trim());
  for (let round = 1; round <= rounds; round++) {
    for (const job of JOBS.filter(({ name }) => !jobs || jobs.includes(name))) {
      for (const backend of inTurn(chosen, round)) {
        report({
          type: 'measured',
          job: job.name,
          backend: backend.name,
          round,
          ...(await measure(guest, backend, job, seconds)),
        });
      }
    }
  }
  await guest.destroy();
  await guest.gone();
  await daemon.stop();
}
