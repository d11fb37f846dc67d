/** Ways B and C: xen-blockd in dom0, with its hotplug script. D: with the disks' lines as they are for QEMU. */
import { Domain, listDomains } from '../dom0/domain.mjs';
import { BLOCKD, MAIN } from '../dom0/paths.mjs';
import { group, test } from '../dom0/registry.mjs';
import { sh, until } from '../dom0/shell.mjs';
import { attachDetach, basics, namedFormat } from './shared/disk-tests.mjs';
import { onWay, phy, qdisk, tap } from './shared/ways.mjs';
import { checkQcow2, verifyFio } from './shared/work.mjs';

group('B dom0 tap', { ...onWay(tap), xen: ['4.20'] }, [...basics, namedFormat, attachDetach(25)]);
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
