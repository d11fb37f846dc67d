/** Tests of a guest's disk that run on every way; the context has the way. */
import { holdings } from '../../dom0/daemon.mjs';
import { Domain } from '../../dom0/domain.mjs';
import { test } from '../../dom0/registry.mjs';
import { until } from '../../dom0/shell.mjs';
import { xsExists } from '../../dom0/xenstore.mjs';
import { checkQcow2, verifyFio, workTree } from './work.mjs';

/** A guest that has an image of its name, of 64 MiB, as xvda. */
export async function diskGuest(way, name, options = {}) {
  await way.image(name, 64);
  const guest = await Domain.guest(name, { disks: [way.disk('xvda', name)], ...options });
  await guest.disk('xvda');
  return guest;
}

export const basics = [
  test('a file system is made, filled, checked and read again', async ({ way }) => {
    await way.image('tree', 128);
    const guest = await Domain.guest('tree', { disks: [way.disk('xvda', 'tree')] });
    await guest.disk('xvda');
    await workTree(guest, 'xvda');
    await guest.shutdown();
    await way.daemon.sh('e2fsck -fn /tmp/images/tree', { timeout: 240 });
  }),
  test('fio verifies what it wrote at depth 32', async ({ way }) => {
    await way.image('fio', 64);
    const guest = await Domain.guest('fio', { fio: true, disks: [way.disk('xvda', 'fio')] });
    await guest.disk('xvda');
    // The check for leaks would find nothing if it looked in the wrong place.
    const held = await holdings(way.daemon);
    if (held.maps === 0 || held.ports <= way.atRest.ports) throw new Error(`held: ${JSON.stringify(held)}`);
    await verifyFio(guest, 'xvda');
    await guest.shutdown();
  }),
  test('a read-only disk refuses writes, several disks keep apart', async ({ way }) => {
    for (const name of ['one', 'two', 'three']) await way.image(name, 32);
    await way.daemon.sh('printf something >/tmp/images/three && truncate -s 32M /tmp/images/three');
    const disks = [way.disk('xvda', 'one'), way.disk('xvdb', 'two'), way.disk('xvdc', 'three', { readOnly: true })];
    const guest = await Domain.guest('disks', { disks });
    for (const disk of ['xvda', 'xvdb', 'xvdc']) await guest.disk(disk);
    await guest.sh('test "$(cat /sys/block/xvdc/ro)" = 1');
    await guest.sh('test "$(head -c 9 /dev/xvdc)" = something');
    await guest.sh('! dd if=/dev/zero of=/dev/xvdc bs=4k count=1 conv=fsync');
    await guest.sh(
      'dd if=/dev/urandom of=/tmp/data bs=1M count=16 && for d in a b; do dd if=/tmp/data of=/dev/xvd$d bs=1M seek=1 conv=fsync; done',
    );
    await guest.sh('printf two | dd of=/dev/xvdb conv=notrunc,fsync');
    await guest.sh(
      'for d in a b; do dd if=/dev/xvd$d bs=1M skip=1 count=16 iflag=direct | cmp - /tmp/data || exit 1; done',
    );
    await guest.shutdown();
    await way.daemon.sh(
      'test "$(head -c 3 /tmp/images/two)" = two && test "$(head -c 3 /tmp/images/one | tr -d "\\0")" = ""',
    );
  }),
];

/** xl lets raw and vhd through for these ways, and takes what follows for a name. */
const runNamedFormat = async ({ way }) => {
  const image = '/tmp/images/named.qcow2';
  await way.daemon.sh(`mkdir -p /tmp/images && qemu-img create -q -f qcow2 ${image} 64M`);
  const disks = [way.disk('xvda', '', { target: `qcow2:${image}` })];
  const guest = await Domain.guest('named', { fio: true, disks });
  await guest.disk('xvda');
  // The image itself is a few hundred kilobytes.
  await guest.sh('test "$(cat /sys/block/xvda/size)" = 131072');
  await verifyFio(guest, 'xvda');
  await guest.shutdown();
  await checkQcow2(image);
};

/** The lab of Xen 4.17 has no qemu-storage-daemon in dom0. */
export const namedFormat = test('a qcow2 image whose format the target names', runNamedFormat, { xen: ['4.20'] });

export const twoGuests = test('two guests at once', async ({ way }) => {
  const guests = [await diskGuest(way, 'left', { fio: true }), await diskGuest(way, 'right', { fio: true })];
  await Promise.all(guests.map((guest) => verifyFio(guest, 'xvda')));
  await Promise.all(guests.map((guest) => guest.shutdown()));
});

/** Attaches and detaches a disk `times` times while another one is written. */
export function attachDetach(times) {
  const run = async ({ way }) => {
    await way.image('busy', 64);
    await way.image('hot', 16);
    const disks = [way.disk('xvda', 'busy'), ...(await way.hotplugDisks())];
    const guest = await Domain.guest('hotplug', { fio: true, disks });
    await guest.disk('xvda');
    await guest.sh(
      '(fio --name=busy --filename=/dev/xvda --ioengine=libaio --direct=1 --rw=randwrite --bs=4k --iodepth=8 --rate_iops=100 --time_based --runtime=3600 --size=48M >/tmp/busy.out 2>&1; echo ended >/tmp/busy.ended) & echo started',
    );
    for (let i = 0; i < times; i++) {
      await guest.attach(way.disk('xvdb', 'hot'));
      await guest.disk('xvdb');
      await guest.sh(
        `echo round ${i} | dd of=/dev/xvdb conv=fsync 2>/dev/null && head -c 9 /dev/xvdb | grep -q "round ${i}"`,
      );
      await guest.detach('xvdb');
      await guest.disk('xvdb', { gone: true });
      const base = `/local/domain/${way.backendDomid}/backend/${way.type}/${guest.domid}/51728`;
      await until('removal of the backend directory', async () => !(await xsExists(base)), { timeout: 10 });
    }
    await guest.sh('test ! -e /tmp/busy.ended || { cat /tmp/busy.out; exit 1; }');
    await guest.destroy();
  };
  return test(`attached and detached ${times} times under I/O`, run, { minutes: 3 + times / 4 });
}
