/** Guests that are not PV: PVH, HVM with its emulated disk, and a boot loader that is a frontend before the kernel is one. */
import { readFileSync, writeFileSync } from 'node:fs';
import { Domain, guestBoot } from '../dom0/domain.mjs';
import { group, test } from '../dom0/registry.mjs';
import { sh } from '../dom0/shell.mjs';
import { onWay, tap } from './shared/ways.mjs';
import { verifyFio } from './shared/work.mjs';

const NO_SCREEN = ['nographic=1', 'vga="none"', 'usb=0'];

/** The ABIs of each connection of a disk, by the daemon's log. */
function connectedAbis(daemon, device) {
  const lines = readFileSync(daemon.log, 'utf8').split('\n').filter(Boolean);
  return lines
    .map((line) => JSON.parse(line))
    .flatMap((line) => (line.device === device && line.abi ? [line.abi] : []));
}

const pvh = test('a PVH guest works, and a disk is attached to it and detached', async ({ way }) => {
  for (const name of ['pvh', 'hot']) await way.image(name, 64);
  const guest = await Domain.guest('pvh', { type: 'pvh', fio: true, disks: [way.disk('xvda', 'pvh')] });
  await guest.disk('xvda');
  await verifyFio(guest, 'xvda', { size: '8M' });
  await guest.attach(way.disk('xvdb', 'hot'));
  await guest.disk('xvdb');
  await guest.sh('echo hot | dd of=/dev/xvdb conv=fsync 2>/dev/null');
  await guest.detach('xvdb');
  await guest.disk('xvdb', { gone: true });
  await guest.shutdown();
  await way.daemon.sh('test "$(head -c 3 /tmp/images/hot)" = hot');
});

/** Its firmware sees a disk that QEMU emulates on our NBD socket; Linux unplugs that, and uses the one of blkfront. */
const hvm = test(
  'an HVM guest has an emulated disk over NBD, and unplugs it for the one of blkfront',
  async ({ way }) => {
    await way.image('hvm', 64);
    const disks = [way.disk('xvda', 'hvm')];
    const guest = await Domain.guest('hvm', { type: 'hvm', fio: true, disks, lines: NO_SCREEN });
    await guest.disk('xvda');
    const models = await sh('pgrep -a -f "[x]en-domid" || true');
    if (!models.includes('nbd+unix')) throw new Error(`QEMU has no disk over NBD:\n${models}`);
    await guest.sh('! ls /dev/sd? /dev/hd? 2>/dev/null');
    await verifyFio(guest, 'xvda', { size: '8M' });
    await guest.shutdown();
  },
  { minutes: 8 },
);

const grub = test(
  'GRUB reads the kernel from the disk as an x86_32 frontend, and Linux connects anew as x86_64',
  async ({ way }) => {
    const { kernel, initrd, arguments: words } = guestBoot({ fio: true });
    const root = '/tmp/grub-root';
    await sh(
      `rm -rf ${root} && mkdir -p ${root}/boot/grub && cp ${kernel} ${root}/boot/vmlinuz && cp ${initrd} ${root}/boot/initrd`,
    );
    writeFileSync(`${root}/boot/grub/grub.cfg`, `linux /boot/vmlinuz ${words}\ninitrd /boot/initrd\nboot\n`);
    await sh(`mkdir -p /tmp/images && mke2fs -q -t ext2 -d ${root} /tmp/images/grub 128M && rm -rf ${root}`, {
      timeout: 120,
    });
    await way.image('grub-data', 64);
    const disks = [way.disk('xvda', 'grub'), way.disk('xvdb', 'grub-data')];
    const guest = await Domain.withGrub('grub', { disks, fio: true });
    await guest.disk('xvdb');
    await guest.sh('mkdir -p /mnt && mount -o ro /dev/xvda /mnt && test -s /mnt/boot/vmlinuz && umount /mnt');
    await verifyFio(guest, 'xvdb', { size: '8M' });
    const abis = connectedAbis(way.daemon, `vbd3-${guest.domid}-51712`);
    await guest.shutdown();
    if (!abis.includes('x86_32') || abis.at(-1) !== 'x86_64') throw new Error(`the ABIs were ${abis.join(', ')}`);
    return abis.join(', ');
  },
  { minutes: 8 },
);

group('guest kinds', { ...onWay(tap), xen: ['4.20'] }, [pvh, hvm, grub]);
