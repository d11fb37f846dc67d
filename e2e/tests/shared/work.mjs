/** What guests do with their disks. */
import { sh } from '../../dom0/shell.mjs';

/** A file system made, filled, checked and read again. */
export async function workTree(guest, disk) {
  const device = `/dev/${disk}`;
  await guest.sh(`mkfs.ext4 -q -F ${device}`, { timeout: 240 });
  await guest.sh(`mkdir -p /mnt/${disk} && mount -t ext4 ${device} /mnt/${disk}`);
  await guest.sh(`cp -a /usr /bin /mods /mnt/${disk}/ && sync`, { timeout: 240 });
  await guest.sh(`umount /mnt/${disk}`, { timeout: 120 });
  await guest.sh(`e2fsck -fn ${device}`, { timeout: 240 });
  await guest.sh(`mount -t ext4 -o ro ${device} /mnt/${disk}`);
  const compare = `cd / && find usr bin mods -type f | while read -r f; do cmp "$f" /mnt/${disk}/"$f" || exit 1; done`;
  await guest.sh(compare, { timeout: 240 });
  await guest.sh(`umount /mnt/${disk}`);
}

/** fio's own proof that what is read is what was written, at a depth of 32. Needs a guest with fio. */
export async function verifyFio(guest, disk, { size = '24M', depth = 32 } = {}) {
  const job = [
    `--name=verify --filename=/dev/${disk} --ioengine=libaio --direct=1 --rw=randwrite --bsrange=4k-64k --bs_unaligned=0`,
    `--size=${size} --iodepth=${depth} --verify=crc32c --verify_fatal=1 --do_verify=1 --output-format=terse`,
  ];
  await guest.sh(`fio ${job.join(' ')}`, { timeout: 300 });
}

/** Errors: a qcow2 image in dom0 that is damaged. Clusters that a killed process has allocated and not used are no damage. */
export async function checkQcow2(image) {
  const LEAKS_ONLY = 3;
  // A disk that is gone for its toolstack has its helper still, for a moment.
  const unlocked = `for i in $(seq 60); do qemu-img info ${image} >/dev/null && break; sleep 1; done`;
  await sh(`${unlocked}; qemu-img check -q ${image} || test $? = ${LEAKS_ONLY}`, { timeout: 120 });
}
