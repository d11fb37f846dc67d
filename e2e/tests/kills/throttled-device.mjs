/** A loop device that the kernel slows down for whoever is in a control group. */
import { sh } from '../../dom0/shell.mjs';

const CGROUPS = '/sys/fs/cgroup';
/** Control group of the daemon whose I/O is slow. */
export const SLOW_GROUP = `${CGROUPS}/slow`;

/** Slow enough that a queue of requests is in flight at most instants. */
const SLOW = 'rbps=max riops=max wbps=6000000 wiops=300';
/** What a killed process left is still in the block layer when the next one serves. */
const HANGING = 'rbps=200000 riops=6 wbps=200000 wiops=6';

export async function makeSlowGroup() {
  await sh(`modprobe loop; mountpoint -q ${CGROUPS} || mount -t cgroup2 none ${CGROUPS}`);
  await sh(`echo +io >${CGROUPS}/cgroup.subtree_control && mkdir -p ${SLOW_GROUP}`);
}

export class ThrottledDevice {
  /** Over a new file of zeroes. */
  static async over(file, mib) {
    await sh(`mkdir -p $(dirname ${file}) && rm -f ${file} && truncate -s ${mib}M ${file}`);
    const path = (await sh(`losetup -f --show ${file}`)).trim();
    const number = (await sh(`cat /sys/block/${path.slice('/dev/'.length)}/dev`)).trim();
    const device = new ThrottledDevice(path, number);
    await device.slow();
    return device;
  }

  constructor(path, number) {
    this.path = path;
    this.number = number;
  }

  slow() {
    return this.#limit(SLOW);
  }

  hang() {
    return this.#limit(HANGING);
  }

  #limit(limits) {
    return sh(`echo '${this.number} ${limits}' >${SLOW_GROUP}/io.max`);
  }

  async remove() {
    await sh(
      `echo '${this.number} rbps=max riops=max wbps=max wiops=max' >${SLOW_GROUP}/io.max; losetup -d ${this.path}`,
    );
  }
}
