/** Domains, made and ended by xl as an administrator would. */
import { existsSync, writeFileSync } from 'node:fs';
import { DomainConsole } from './console.mjs';
import { BOOT } from './paths.mjs';
import { sh, until } from './shell.mjs';

const domains = new Set();

/** What a guest boots. */
export function guestBoot({ fio = false } = {}) {
  return {
    kernel: `${BOOT}/vmlinuz`,
    initrd: `${BOOT}/guest${fio ? '-fio' : ''}.initrd`,
    arguments: 'console=hvc0 quiet loglevel=3 mitigations=off panic=1',
    memory: fio ? 384 : 160,
  };
}

/** What xl lists: `{ name, domid, memory, state }`. */
export async function listDomains() {
  const lines = (await sh('xl list')).trim().split('\n').slice(1);
  return lines.map((line) => {
    const [name, domid, memory, , state] = line.split(/\s+/);
    return { name, domid: Number(domid), memory: Number(memory), state };
  });
}

/** A domain with the lab's agent in it. */
export class Domain {
  name;
  domid = 0;
  console;

  constructor(name, config) {
    this.name = name;
    this.config = config;
  }

  /** Creates a guest from an initrd. `disks` are xl disk strings; `fio` says that it carries fio; `type` is xl's. */
  static async guest(name, { disks = [], fio = false, type = 'pv', memory, vcpus = 1, lines = [] } = {}) {
    const boot = guestBoot({ fio });
    const bootLines = [`kernel="${boot.kernel}"`, `ramdisk="${boot.initrd}"`, `extra="${boot.arguments}"`];
    const all = [...bootLines, ...lines];
    return Domain.#ofDisks(name, { disks, type, memory: memory ?? boot.memory, vcpus, lines: all });
  }

  /** Creates a PVH guest whose boot loader reads `guestBoot` from its first disk. */
  static async withGrub(name, { disks, fio = false }) {
    const lines = [`kernel="${BOOT}/grub-pvh"`];
    return Domain.#ofDisks(name, { disks, type: 'pvh', memory: 2 * guestBoot({ fio }).memory, lines });
  }

  static async #ofDisks(name, { disks, type, memory, vcpus = 1, lines }) {
    const config = [
      `name="${name}"`,
      `type="${type}"`,
      `memory=${memory}`,
      `vcpus=${vcpus}`,
      'cpus="1"',
      `disk=[${disks.map((disk) => `'${disk}'`).join(', ')}]`,
      ...lines,
    ];
    return Domain.create(name, config);
  }

  /** Creates a storage driver domain. */
  static driver(name) {
    return Domain.machine(name, { lines: ['cpus="0"', 'driver_domain=1'] });
  }

  /** Creates a domain with the same root file system and run disk as dom0's, served by xen-blkback. */
  static async machine(name, { memory = 640, lines = [] } = {}) {
    await sh('modprobe xen-blkback');
    const config = [
      `name="${name}"`,
      'type="pv"',
      `kernel="${BOOT}/vmlinuz"`,
      `ramdisk="${BOOT}/domain.initrd"`,
      `memory=${memory}`,
      'extra="console=hvc0 quiet loglevel=3 mitigations=off panic=1"',
      'vcpus=1',
      `disk=['phy:/dev/vda,xvda,r', 'phy:/dev/vdb,xvdb,r']`,
      ...lines,
    ];
    return Domain.create(name, config);
  }

  static async create(name, config) {
    const domain = new Domain(name, config);
    const file = `/tmp/logs/${name}.cfg`;
    writeFileSync(file, `${config.join('\n')}\n`);
    domains.add(domain);
    await sh(`xl create ${file}`, { timeout: 150 });
    await domain.#attach();
    return domain;
  }

  async #attach() {
    await this.#goOn();
    await this.console.ready();
  }

  /** Runs a command in the domain. */
  sh(command, options) {
    return this.console.sh(command, options);
  }

  /** When the domain has started anew by itself under a new number. */
  async restarted({ timeout = 180 } = {}) {
    const old = this.domid;
    await until(
      `restart of ${this.name}`,
      async () => {
        const domid = Number((await sh(`xl domid ${this.name} 2>/dev/null || echo ${old}`)).trim());
        return domid !== old;
      },
      { timeout },
    );
    this.console.close();
    await this.#attach();
  }

  /** xl save, which ends the domain, and xl restore. */
  async save(file) {
    await sh(`xl save ${this.name} ${file}`, { timeout: 240 });
    this.console.close();
  }

  async restore(file) {
    await sh(`xl restore ${file}`, { timeout: 240 });
    await this.#goOn();
  }

  /** xl migrate to this host: for a moment there are two domains, which both have its disks. */
  async migrate() {
    await sh(`xl migrate -s '' ${this.name} 'xl migrate-receive'`, { timeout: 300 });
    this.console.close();
    const old = this.domid;
    await this.#goOn();
    if (this.domid === old) throw new Error(`${this.name} has the number that it had`);
  }

  /** What was in it is in a domain of another number now. */
  async #goOn() {
    this.domid = Number((await sh(`xl domid ${this.name}`)).trim());
    this.console = await DomainConsole.open(this.name, this.domid);
  }

  attach(disk, { timeout = 120 } = {}) {
    return sh(`xl block-attach ${this.name} '${disk}'`, { timeout });
  }

  detach(vdev, { timeout = 120 } = {}) {
    return sh(`xl block-detach ${this.name} ${vdev}`, { timeout });
  }

  /** Waits until the guest has `disk` (xvdb) or, with `gone`, no longer has it. */
  async disk(disk, { gone = false, timeout = 60 } = {}) {
    const test = gone ? `! test -b /dev/${disk}` : `test -b /dev/${disk}`;
    const loop = `for i in $(seq ${timeout * 4}); do ${test} && exit 0; sleep 0.25; done; dmesg | tail -20; exit 1`;
    return this.sh(loop, { timeout: timeout + 30 });
  }

  async shutdown({ timeout = 90 } = {}) {
    this.console.post('sync; poweroff -f');
    await this.gone({ timeout });
  }

  async destroy() {
    domains.delete(this);
    this.console?.close();
    const exists = (await listDomains()).some(({ name }) => name === this.name);
    if (exists) await sh(`xl destroy ${this.name}`, { timeout: 120 });
  }

  /** Waits until nothing is left of the domain. Errors: what xl still lists, such as a zombie. */
  async gone({ timeout = 60 } = {}) {
    domains.delete(this);
    const state = async () => (await listDomains()).find(({ domid }) => domid === this.domid);
    await until(`end of ${this.name}`, async () => !(await state()), { timeout });
    this.console?.close();
  }
}

/** Ends what a failed test left. */
export async function destroyAll({ except = [] } = {}) {
  for (const domain of [...domains]) {
    if (!except.includes(domain)) await domain.destroy().catch(() => {});
  }
}

/** Unloads the kernel's own backend, which would serve `backend/vbd` before anybody else. */
export async function withoutBlkback() {
  if (existsSync('/sys/module/xen_blkback')) await sh('modprobe -r xen-blkback', { timeout: 60 });
}
