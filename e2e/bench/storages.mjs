/**
 * What the disks of a benchmark are kept on, in dom0. Each backend has a copy of its own: QEMU writes through dom0's page cache, and
 * others would have to write out what it left there.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { QmpClient } from '/lab/repo/packages/qmp/dist/index.js';
import { sh, until } from '../dom0/shell.mjs';

const DISK_MIB = 256;
const FOLDER = '/tmp/bench';
const TAP = 'backendtype=tap,script=block-xen-blockd';

/** RAM disks. Backends without a line of xl are programs of the lab. */
const raw = {
  backends: [
    { name: 'xen-blkback', vdev: 'xvda', device: '/dev/ram0', line: 'format=raw,backendtype=phy,target=/dev/ram0' },
    { name: 'qdisk', vdev: 'xvdb', device: '/dev/ram1', line: 'format=raw,backendtype=qdisk,target=/dev/ram1' },
    { name: 'xen-blockd', vdev: 'xvdc', device: '/dev/ram2', line: `format=raw,${TAP},target=/dev/ram2` },
    { name: 'floor', vdev: 'xvdd', device: '/dev/ram3', kind: 'floor' },
    // Reads and writes nothing: guest, hypervisor and dom0's kernel alone.
    { name: 'null', vdev: 'xvde', device: '/dev/ram4', kind: 'null' },
  ],
  async prepare(backends) {
    await sh(`modprobe brd rd_nr=5 rd_size=${DISK_MIB * 1024} && modprobe xen-blkback`);
    // Nothing is read of the disk of `null`: only its size counts, and dom0 keeps the memory.
    for (const { device } of backends.filter(({ kind }) => kind !== 'null')) await fill(device);
  },
};

/** qcow2 files in memory that have all their clusters. */
const qcow2 = {
  backends: [
    { name: 'qdisk', vdev: 'xvdb', line: `format=qcow2,backendtype=qdisk,target=${FOLDER}/qdisk.qcow2` },
    { name: 'xen-blockd', vdev: 'xvdc', line: `format=raw,${TAP},target=qcow2:${FOLDER}/xen-blockd.qcow2` },
  ],
  async prepare(backends) {
    await sh(`mkdir -p ${FOLDER}`);
    await fill(`${FOLDER}/raw`);
    for (const { name } of backends)
      await sh(`qemu-img convert -f raw -O qcow2 ${FOLDER}/raw ${FOLDER}/${name}.qcow2`, { timeout: 300 });
    await sh(`rm ${FOLDER}/raw`);
  },
};

/** An NBD server for each, in dom0, on a RAM disk. xl has no qdisk on a server: that one is added to the guest's QEMU. */
const nbd = {
  backends: [
    { name: 'qdisk', vdev: 'xvdb', device: '/dev/ram0' },
    {
      name: 'xen-blockd',
      vdev: 'xvdc',
      device: '/dev/ram1',
      line: `format=raw,${TAP},target=nbd+unix:///disk?socket=${FOLDER}/xen-blockd`,
    },
  ],
  /** For the guest to have a QEMU. */
  besides: [`vdev=xvdp,format=raw,access=rw,backendtype=qdisk,target=${FOLDER}/besides`],
  async prepare(backends) {
    await sh(
      `modprobe brd rd_nr=2 rd_size=${DISK_MIB * 1024} && mkdir -p ${FOLDER} && truncate -s 1M ${FOLDER}/besides`,
    );
    for (const { name, device } of backends) {
      await fill(device);
      serve(`${FOLDER}/${name}`, device);
      await until(`the NBD server for ${name}`, async () => existsSync(`${FOLDER}/${name}`));
    }
  },
  async attach(domid, backends) {
    if (!backends.some(({ name }) => name === 'qdisk')) return;
    const qemu = await QmpClient.connect(`/var/run/xen/qmp-libxl-${domid}`);
    const server = { type: 'unix', path: `${FOLDER}/qdisk` };
    await qemu.execute('blockdev-add', { driver: 'nbd', 'node-name': 'bench', server, export: 'disk' });
    // QEMU writes its keys one by one, and Linux gives a disk up whose keys are not all there.
    await sh(`xl pause ${domid}`);
    await qemu.execute('device_add', { driver: 'xen-disk', id: 'bench', vdev: 'xvdb', drive: 'bench' });
    await sh(`xl unpause ${domid}`);
    qemu.close();
  },
};

export const STORAGES = { raw, qcow2, nbd };

function serve(socket, filename) {
  const server = ['--nbd-server', `addr.type=unix,addr.path=${socket},max-connections=16`];
  const node = ['--blockdev', `driver=host_device,node-name=disk,filename=${filename},cache.direct=on`];
  const added = ['--export', 'type=nbd,id=disk,node-name=disk,name=disk,writable=on'];
  spawn('qemu-storage-daemon', [...node, ...server, ...added], { stdio: 'ignore' }).unref();
}

function fill(path) {
  const direct = path.startsWith('/dev/') ? 'oflag=direct' : '';
  return sh(`dd if=/dev/urandom of=${path} bs=1M count=${DISK_MIB} ${direct} 2>/dev/null`, { timeout: 120 });
}
