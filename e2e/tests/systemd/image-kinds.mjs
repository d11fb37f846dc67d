/** Images of each kind in a folder: a raw file, qcow2, what an NBD server has, and a block device. */
import { sh, until } from '../../dom0/shell.mjs';

const SIZE = '32M';
const SERVER = 'lab-nbd';
const SOCKET = '/run/lab-nbd';

export class ImageKinds {
  #folder;
  #device;

  constructor(folder) {
    this.#folder = folder;
  }

  static async make(folder, { blockDevices }) {
    const kinds = new ImageKinds(folder);
    await sh(`mkdir -p ${folder} && cd ${folder} && truncate -s ${SIZE} kinds.raw kinds.nbd kinds.block`);
    await sh(`qemu-img create -q -f qcow2 ${folder}/kinds.qcow2 ${SIZE}`);
    await kinds.#startServer();
    if (blockDevices) kinds.#device = (await sh(`losetup -f --show ${folder}/kinds.block`)).trim();
    return kinds;
  }

  async #startServer() {
    const words = [
      `--blockdev file,node-name=disk,filename=${this.#folder}/kinds.nbd,discard=unmap`,
      `--nbd-server addr.type=unix,addr.path=${SOCKET}`,
      '--export nbd,id=disk,node-name=disk,name=disk,writable=on',
    ];
    await sh(`systemd-run --unit=${SERVER} --collect qemu-storage-daemon ${words.join(' ')}`);
    await until('the NBD server', async () => (await sh(`test -S ${SOCKET} && echo yes || true`)).trim() === 'yes');
  }

  /** A line for xl. */
  rawLine(vdev) {
    const target = `${this.#folder}/kinds.raw`;
    return `vdev=${vdev},format=raw,access=rw,backendtype=tap,script=block-xen-blockd,target=${target}`;
  }

  /** What no line for xl names: devices with their params. */
  others() {
    const others = [
      ['xvdb', `qcow2:${this.#folder}/kinds.qcow2`],
      ['xvdc', `aio:nbd+unix:///disk?socket=${SOCKET}`],
    ];
    return this.#device === undefined ? others : [...others, ['xvdd', `aio:${this.#device}`]];
  }

  /** All devices, that of the raw file too. */
  vdevs() {
    return ['xvda', ...this.others().map(([vdev]) => vdev)];
  }

  /** The server and the block device; the files stay. */
  async remove() {
    await sh(`systemctl stop ${SERVER}; rm -f ${SOCKET}`);
    if (this.#device !== undefined) await sh(`losetup -d ${this.#device}`);
  }
}
