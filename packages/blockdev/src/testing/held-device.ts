/**
 * A block device whose requests are held back for as long as a test wants, for the processes that are put behind it: a
 * loop device, and the kernel's I/O throttle at next to nothing. Requests of others pass. As slow storage does, it has
 * them even when the process that made them is gone. Needs root and a control group of block I/O.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';

/** How a version of control groups throttles. */
interface Throttle {
  readonly folder: string;
  hold(group: string, device: string): void;
  release(group: string, device: string): void;
}

const HELD_FILES = ['read_bps_device', 'write_bps_device'];

function setFirst(group: string, device: string, bytesPerSecond: number): void {
  for (const file of HELD_FILES) {
    writeFileSync(join(group, `blkio.throttle.${file}`), `${device} ${bytesPerSecond}`);
  }
}

const FIRST: Throttle = {
  folder: '/sys/fs/cgroup/blkio',
  hold: (group, device) => setFirst(group, device, 1),
  // No limit.
  release: (group, device) => setFirst(group, device, 0),
};

const SECOND: Throttle = {
  folder: '/sys/fs/cgroup',
  hold: (group, device) => writeFileSync(join(group, 'io.max'), `${device} rbps=1 wbps=1`),
  release: (group, device) => writeFileSync(join(group, 'io.max'), `${device} rbps=max wbps=max`),
};

function throttle(): Throttle {
  return existsSync(join(FIRST.folder, 'blkio.throttle.write_bps_device')) ? FIRST : SECOND;
}

function losetup(...args: string[]): string {
  return execFileSync('losetup', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim();
}

let made = 0;

export class HeldDevice implements Disposable {
  /** The device's path. */
  readonly path: string;
  readonly #throttle = throttle();
  readonly #group: string;
  readonly #device: string;
  #holds = false;

  /** `backing` is the file that has the device's bytes. */
  constructor(backing: string) {
    this.path = losetup('--find', '--show', backing);
    this.#device = readFileSync(`/sys/class/block/${basename(this.path)}/dev`, 'latin1').trim();
    this.#group = join(this.#throttle.folder, `held-device-${process.pid}-${made++}`);
    try {
      mkdirSync(this.#group);
      this.hold();
    } catch (error) {
      losetup('--detach', this.path);
      throw error;
    }
  }

  /** What the process does on the device from now on is held back while the device holds. */
  add(pid: number | undefined): void {
    writeFileSync(join(this.#group, 'cgroup.procs'), String(pid));
  }

  hold(): void {
    this.#throttle.hold(this.#group, this.#device);
    this.#holds = true;
  }

  /** Lets everything pass. */
  release(): void {
    if (this.#holds) this.#throttle.release(this.#group, this.#device);
    this.#holds = false;
  }

  /** Nobody may have the device open, and no process may be behind it. */
  [Symbol.dispose](): void {
    this.release();
    losetup('--detach', this.path);
    rmdirSync(this.#group);
  }
}
