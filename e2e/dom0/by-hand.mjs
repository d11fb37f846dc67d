/** Disks that xl has no words for, attached as libxl attaches the others: qcow2 in dom0, which tap and phy refuse. */
import { sh, until } from './shell.mjs';
import { xsExists, xsRead } from './xenstore.mjs';

const DEVIDS = { xvdb: 51728, xvdc: 51744, xvdd: 51760 };
const INIT_WAIT = '2';
const CONNECTED = '4';

/** A disk of type vbd3 whose `params` no toolstack of this release writes. */
export class DiskByHand {
  static async attach(guest, vdev, params) {
    const disk = new DiskByHand(guest.domid, DEVIDS[vdev]);
    await disk.#create(vdev, params);
    await disk.#state(INIT_WAIT);
    await sh(`XENBUS_PATH=${disk.backend} /etc/xen/scripts/block-xen-blockd add`);
    await disk.#state(CONNECTED);
    return disk;
  }

  constructor(domid, devid) {
    this.domid = domid;
    this.frontend = `/local/domain/${domid}/device/vbd/${devid}`;
    this.backend = `/local/domain/0/backend/vbd3/${domid}/${devid}`;
  }

  async #create(vdev, params) {
    const { domid, frontend, backend } = this;
    const backends = backend.slice(0, backend.lastIndexOf('/'));
    await sh(`xenstore-write ${frontend} '' && xenstore-chmod ${frontend} n${domid} r0`);
    if (!(await xsExists(backends))) await sh(`xenstore-write ${backends} ''`);
    await sh(`xenstore-chmod ${backends} n0 r${domid}`);
    const keys = {
      [`${backend}/frontend`]: frontend,
      [`${backend}/frontend-id`]: domid,
      [`${backend}/params`]: params,
      [`${backend}/mode`]: 'w',
      [`${backend}/device-type`]: 'disk',
      [`${backend}/dev`]: vdev,
      [`${backend}/online`]: 1,
      [`${backend}/state`]: 1,
      [`${frontend}/backend`]: backend,
      [`${frontend}/backend-id`]: 0,
      [`${frontend}/virtual-device`]: frontend.slice(frontend.lastIndexOf('/') + 1),
      [`${frontend}/device-type`]: 'disk',
      [`${frontend}/state`]: 1,
    };
    // One transaction, so that nobody sees half of them.
    const words = Object.entries(keys).map(([path, value]) => `'${path}' '${value}'`);
    await sh(`xenstore-write ${words.join(' ')}`);
  }

  async #state(wanted) {
    const isThere = async () => (await xsRead(`${this.backend}/state`)) === wanted;
    await until(`state ${wanted} of ${this.backend}`, isThere).catch(async (error) => {
      throw new Error(`${error.message}: ${await sh(`xenstore-ls ${this.backend}`).catch(String)}`);
    });
  }

  /** What libxl does for a domain that is gone. */
  async remove() {
    await sh(`xenstore-rm ${this.backend}`);
  }
}
