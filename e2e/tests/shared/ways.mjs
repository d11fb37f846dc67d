/** The three ways in which an unmodified toolstack reaches xen-blockd, for tests that run on any of them. */
import { writeFileSync } from 'node:fs';
import { Daemon, holdings, RemoteDaemon } from '../../dom0/daemon.mjs';
import { Domain, listDomains, withoutBlkback } from '../../dom0/domain.mjs';
import { sh, until } from '../../dom0/shell.mjs';
import { xsList } from '../../dom0/xenstore.mjs';

const STORAGE = 'storage';
const FIRST_DISK_FDS = 6;
const CONFIG = '/tmp/xen-blockd.toml';

/** Where the daemon runs and how a disk's line names it. Images are files in memory. */
class Way {
  constructor(type, line) {
    this.type = type;
    this.line = line;
  }

  /** xl's line for the image `name`, or for another `target`. */
  disk(vdev, name, { readOnly = false, target = `/tmp/images/${name}` } = {}) {
    this.hasServed = true;
    return `vdev=${vdev},format=raw,access=${readOnly ? 'ro' : 'rw'},${this.line},target=${target}`;
  }

  /** Makes an image of zeroes. */
  async image(name, mib) {
    await this.daemon.sh(
      `mkdir -p /tmp/images && rm -f /tmp/images/${name} && truncate -s ${mib}M /tmp/images/${name}`,
    );
  }

  get backendDomid() {
    return 0;
  }

  /** Its own domains. */
  get keep() {
    return [];
  }

  /** Other disks that a guest needs so that xl attaches more to it. */
  async hotplugDisks() {
    return [];
  }

  /** Backend directories that are left. */
  async backendDirectories() {
    const base = `/local/domain/${this.backendDomid}/backend/${this.type}`;
    const found = [];
    for (const domid of await xsList(base)) {
      if (domid === String(this.driver?.domid)) continue;
      for (const devid of await xsList(`${base}/${domid}`)) found.push(`${base}/${domid}/${devid}`);
    }
    return found;
  }

  /** Remembers what the daemon holds while it serves nothing. */
  async rest() {
    this.atRest = await holdings(this.daemon);
    this.hasServed = false;
    this.mostFds = this.atRest.fds + FIRST_DISK_FDS;
  }

  /** Errors: a zombie, a backend directory, a mapping, a descriptor or an event channel is left. */
  async checkLeaks() {
    await this.daemon.check();
    await until('end of the guests', async () =>
      (await listDomains()).every(({ name }) => ['Domain-0', STORAGE].includes(name)),
    );
    let left;
    await until(
      'removal of the backend directories',
      async () => (left = await this.backendDirectories()).length === 0,
    ).catch((error) => {
      throw new Error(`${error.message}: ${left.join(' ')}`);
    });
    await this.#checkHoldings();
  }

  async #checkHoldings() {
    let held;
    const isAtRest = async () => {
      held = await holdings(this.daemon);
      return held.maps <= this.atRest.maps && held.ports <= this.atRest.ports && held.fds <= this.mostFds;
    };
    await until('release of what a guest needed', isAtRest, { timeout: 30, every: 1 }).catch((error) => {
      throw new Error(`${error.message}: ${JSON.stringify(held)}, at rest ${JSON.stringify(this.atRest)}`);
    });
    // The first disk opens what later ones use too.
    if (this.hasServed) this.mostFds = held.fds;
  }
}

class Dom0Way extends Way {
  async start() {
    await withoutBlkback();
    // By default as many queues as processors, and dom0 has one.
    writeFileSync(CONFIG, 'max-queues = 4\n');
    this.daemon = await Daemon.start({ types: this.type, args: `--config ${CONFIG}` });
    await this.rest();
  }

  /** Other arguments, until the next call. No disk may be attached. */
  async restartDaemon(args = '') {
    await this.daemon.stop();
    this.daemon.args = `--config ${CONFIG} ${args}`;
    await this.daemon.start();
    await this.rest();
  }

  async stop() {
    await this.daemon?.stop();
    await sh('rm -rf /tmp/images');
  }
}

class DriverDomainWay extends Way {
  async start() {
    this.driver = await Domain.driver(STORAGE);
    this.daemon = await RemoteDaemon.start(this.driver, { types: this.type });
    await this.rest();
  }

  get backendDomid() {
    return this.driver.domid;
  }

  /**
   * xl's block-attach takes a driver domain's qdisk for one of dom0's, and refuses it to a guest that has no device
   * model ("device model required but not running", Xen 4.17 and 4.20): a disk of dom0's own QEMU brings one.
   */
  async hotplugDisks() {
    await sh('truncate -s 16M /tmp/of-dom0');
    return ['vdev=xvdp,format=raw,access=rw,backendtype=qdisk,target=/tmp/of-dom0'];
  }

  get keep() {
    return [this.driver];
  }

  async stop() {
    const log = await this.driver?.sh('cat /tmp/xen-blockd.log').catch(String);
    if (log) writeFileSync('/tmp/logs/xen-blockd-driver-domain.log', log);
    await this.driver?.destroy();
    await this.driver?.gone();
    await withoutBlkback();
  }
}

/** A: a storage driver domain. */
export const driverDomain = () => new DriverDomainWay('qdisk', `backend=${STORAGE},backendtype=qdisk`);
/** B: dom0, as tapdisk's. From Xen 4.19 on. */
export const tap = () => new Dom0Way('vbd3', 'backendtype=tap,script=block-xen-blockd');
/** C: dom0, in the place of xen-blkback. */
export const phy = () => new Dom0Way('vbd', 'backendtype=phy,script=block-xen-blockd');

/** D: dom0, in the place of QEMU's xen-block, for guests that have our device model. */
export const qdisk = () => new Dom0Way('qdisk', 'backendtype=qdisk');

/** For a group of tests that share a way, as `way` of their context. */
export function onWay(make) {
  return {
    async setup(context) {
      context.way = make();
      await context.way.start();
      // Domains that are not to be ended with what a failed test left.
      context.keep = context.way.keep;
    },
    teardown: ({ way }) => way.stop(),
    after: ({ way }) => way.checkLeaks(),
  };
}
