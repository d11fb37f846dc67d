/** Ways B and C: xen-blockd in dom0, with its hotplug script. D: with the disks' lines as they are for QEMU. */
import { Domain, listDomains } from '../dom0/domain.mjs';
import { BLOCKD, MAIN } from '../dom0/paths.mjs';
import { group, test } from '../dom0/registry.mjs';
import { run } from '../dom0/run.mjs';
import { sh, until } from '../dom0/shell.mjs';
import { attachDetach, basics, diskGuest, namedFormat } from './shared/disk-tests.mjs';
import { onWay, phy, qdisk, tap } from './shared/ways.mjs';
import { checkQcow2, verifyFio } from './shared/work.mjs';

const SECTORS_PER_MIB = 2048;

/** fio verifies in the guest from before the first command until after the last. */
const workOnImage = test(
  'a qcow2 image grows, has snapshots and is one file again while its guest uses it',
  async ({ way }) => {
    const image = '/tmp/images/used.qcow2';
    await way.daemon.sh(`mkdir -p /tmp/images && rm -f ${image}* && qemu-img create -q -f qcow2 ${image} 64M`);
    const disks = [way.disk('xvda', '', { target: `qcow2:${image}` })];
    const guest = await Domain.guest('used', { fio: true, disks });
    await guest.disk('xvda');
    const fio = `fio --name=verify --filename=/dev/xvda --ioengine=libaio --direct=1 --rw=randwrite --bsrange=4k-64k --size=24M --iodepth=32 --verify=crc32c --verify_fatal=1 --do_verify=1`;
    const loop = `rounds=0; while [ ! -e /tmp/stop ]; do ${fio} >/tmp/fio.out 2>&1 || break; rounds=$((rounds + 1)); done`;
    await guest.sh(`(${loop}; [ -e /tmp/stop ] && echo $rounds >/tmp/rounds; echo ended >/tmp/ended) & echo started`);
    const blockd = (command) => sh(`node ${MAIN} ${command}`, { timeout: 120 });
    await blockd(`snapshot used:xvda ${image}.monday`);
    await blockd('resize used:xvda 96M');
    const grown = `test "$(cat /sys/block/xvda/size)" = ${96 * SECTORS_PER_MIB}`;
    await until('the new size', () => guest.sh(`${grown} && echo yes || true`).then((said) => said.includes('yes')));
    await blockd(`snapshot used:xvda ${image}.tuesday`);
    await blockd('flatten used:xvda');
    await sh(`rm ${image}.monday ${image}.tuesday`);
    await guest.sh('touch /tmp/stop');
    const ended = () => guest.sh('cat /tmp/ended 2>/dev/null || true').then((said) => said.includes('ended'));
    await until('the end of fio', ended, { timeout: 120 });
    await guest.sh('[ "$(cat /tmp/rounds)" -gt 0 ] || { cat /tmp/fio.out; exit 1; }');
    await guest.sh('! dmesg | grep -i "i/o error"');
    await verifyFio(guest, 'xvda', { size: '8M' });
    await guest.shutdown();
    await checkQcow2(image);
    await sh(`! qemu-img info ${image} | grep -q backing`);
  },
  { xen: ['4.20'], minutes: 5 },
);

/** A disk as xentop names it: the number that the frontend's directory has. */
const XENTOP_NUMBER = { xvda: 51712, xvdb: 51728 };

/** What xentop shows of a disk of the only guest; `null` if it shows none. */
async function xentopDisk(vdev) {
  const shown = await sh('xentop -b -i 1 -x -f');
  const found = new RegExp(
    `VBD \\S+ +${XENTOP_NUMBER[vdev]} .*?RD: *(\\d+) +WR: *(\\d+) +RSECT: *(\\d+) +WSECT: *(\\d+)`,
  ).exec(shown);
  if (!found) return null;
  const [reads, writes, sectorsRead, sectorsWritten] = found.slice(1).map(Number);
  return { reads, writes, sectorsRead, sectorsWritten };
}

/** The same when it changes no more: figures are up to a second old, and a guest that has just come up reads still. */
async function settledDisk(vdev) {
  let before = '';
  const settled = async () => {
    const now = await xentopDisk(vdev);
    const isSettled = now !== null && now.reads > 0 && JSON.stringify(now) === before;
    before = JSON.stringify(now);
    return isSettled && now;
  };
  return until(`figures of ${vdev} that stay`, settled, { timeout: 120, every: 2 });
}

/** A guest reads 3 MiB and writes 20 KiB, and xentop shows just that. */
async function looksWithXentop(guest, vdev) {
  const before = await settledDisk(vdev);
  await guest.sh(`dd if=/dev/${vdev} of=/dev/null bs=1M count=3 iflag=direct 2>/dev/null`);
  await guest.sh(`dd if=/dev/zero of=/dev/${vdev} bs=4k count=5 oflag=direct 2>/dev/null`);
  const grown = async () => {
    const now = await xentopDisk(vdev);
    return now !== null && now.writes - before.writes >= 5 && now;
  };
  const after = await until(`figures of the writes to ${vdev}`, grown, { timeout: 20 });
  const [read, written] = ['sectorsRead', 'sectorsWritten'].map((of) => after[of] - before[of]);
  if (read !== 3 * SECTORS_PER_MIB || written !== 40) throw new Error(`${read} sectors read, ${written} written`);
  return `${vdev}: ${after.reads} reads, ${after.writes} writes`;
}

const xentop = test('xentop shows what a disk has done', async ({ way }) => {
  const guest = await diskGuest(way, 'top');
  const seen = await looksWithXentop(guest, 'xvda');
  await guest.shutdown();
  return seen;
});

group('B dom0 tap', { ...onWay(tap), xen: ['4.20'] }, [
  ...basics,
  namedFormat,
  workOnImage,
  xentop,
  attachDetach(run.long ? 25 : 10),
]);
group('C dom0 phy', onWay(phy), [...basics, namedFormat, attachDetach(5)]);

const DEVICE_MODEL = '/usr/lib/xen-blockd/device-model';
const onQdisk = onWay(qdisk);

/** As the package installs it. */
async function installDeviceModel() {
  await sh(`mkdir -p /usr/lib/xen-blockd && cp ${BLOCKD}/hotplug/device-model ${DEVICE_MODEL}`);
  await sh(`printf '#!/bin/sh\nexec node ${MAIN} "$@"\n' >/usr/bin/xen-blockd && chmod 755 /usr/bin/xen-blockd`);
}

async function deviceModels() {
  const found = await sh('pgrep -f "[d]evice-model --" || true');
  return found.trim().split('\n').filter(Boolean);
}

const asForQemu = test('a guest whose raw and qcow2 disks are qdisk, as for QEMU', async ({ way }) => {
  await way.image('plain', 64);
  await way.image('hot', 16);
  const image = '/tmp/images/rich.qcow2';
  await way.daemon.sh(`qemu-img create -q -f qcow2 ${image} 64M`);
  const rich = `vdev=xvdb,format=qcow2,access=rw,backendtype=qdisk,target=${image}`;
  const lines = [`device_model_override="${DEVICE_MODEL}"`];
  const guest = await Domain.guest('asqemu', { fio: true, disks: [way.disk('xvda', 'plain'), rich], lines });
  for (const disk of ['xvda', 'xvdb']) await guest.disk(disk);
  if ((await deviceModels()).length !== 1) throw new Error('there is no device model of ours');
  await verifyFio(guest, 'xvda', { size: '8M' });
  await verifyFio(guest, 'xvdb', { size: '8M' });
  const seen = [await looksWithXentop(guest, 'xvda'), await looksWithXentop(guest, 'xvdb')];
  // xl attaches qdisk disks to a guest only if its device model runs.
  await guest.attach(way.disk('xvdc', 'hot'));
  await guest.disk('xvdc');
  await guest.sh('echo hot | dd of=/dev/xvdc conv=fsync 2>/dev/null');
  await guest.detach('xvdc');
  await guest.disk('xvdc', { gone: true });
  await guest.shutdown();
  await checkQcow2(image);
  await until('end of the device model', async () => (await deviceModels()).length === 0, { timeout: 30 });
  if ((await listDomains()).some(({ name }) => name === 'asqemu')) throw new Error('the guest is there still');
  return seen.join(', ');
});

group(
  'D dom0 qdisk',
  {
    ...onQdisk,
    // The lab of Xen 4.17 has no qemu-storage-daemon in dom0.
    xen: ['4.20'],
    async setup(context) {
      await installDeviceModel();
      await onQdisk.setup(context);
    },
  },
  [asForQemu],
);
