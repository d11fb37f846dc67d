/** The lab itself, proven with the backends that everybody has: Linux's xen-blkback and QEMU's qdisk. */
import { Domain, withoutBlkback } from '../dom0/domain.mjs';
import { group, test } from '../dom0/registry.mjs';
import { sh } from '../dom0/shell.mjs';
import { verifyFio, workTree } from './shared/work.mjs';

const RAM_DISK_KIB = 256 * 1024;

async function setup() {
  await sh(`modprobe brd rd_nr=2 rd_size=${RAM_DISK_KIB}`);
}

group('lab', { setup, teardown: withoutBlkback }, [
  test('a guest works on xen-blkback', async () => {
    await sh('modprobe xen-blkback');
    const guest = await Domain.guest('peer', { fio: true, disks: ['phy:/dev/ram0,xvda,w'] });
    await guest.disk('xvda');
    await workTree(guest, 'xvda');
    await verifyFio(guest, 'xvda');
    await guest.destroy();
    await guest.gone();
  }),
  test(
    'a guest works on QEMU',
    async () => {
      const disk = 'vdev=xvda,format=raw,access=rw,backendtype=qdisk,target=/dev/ram1';
      const guest = await Domain.guest('peer', { fio: true, disks: [disk] });
      await guest.disk('xvda');
      await workTree(guest, 'xvda');
      await guest.destroy();
      await guest.gone();
    },
    { xen: ['4.20'] },
  ),
]);
