import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';

const FIRST = '/sys/fs/cgroup/blkio';
const SECOND = '/sys/fs/cgroup';

/** Of bytes or operations, reads and writes each, in a second. */
export type ThrottleKind = 'bps' | 'iops';

/**
 * Loop devices that the kernel's I/O throttle makes slow for the processes of a control group, of either version. As slow
 * storage does, they have what a process began even when it is gone. Needs root.
 */
export class ThrottledDevices implements Disposable {
  readonly #group: string;
  /** Device numbers by path. */
  readonly #devices = new Map<string, string>();

  /** `name`: of the control group, which is this object's alone. */
  constructor(name: string) {
    this.#group = join(isFirst() ? FIRST : SECOND, name);
  }

  /** Why there can be none here, or undefined. */
  static get missing(): string | undefined {
    if (process.getuid?.() !== 0) return 'loop devices need root';
    if (!existsSync('/dev/loop-control')) return 'there is no /dev/loop-control';
    return isFirst() || existsSync(join(SECOND, 'io.stat')) ? undefined : 'there is no control group of block I/O';
  }

  /** The path of a new device with a file's bytes. */
  create(backing: string): string {
    mkdirSync(this.#group, { recursive: true });
    const path = losetup('--find', '--show', backing);
    this.#devices.set(path, readFileSync(`/sys/class/block/${basename(path)}/dev`, 'latin1').trim());
    return path;
  }

  limit(path: string, kind: ThrottleKind, most: number | 'none'): void {
    const device = this.#devices.get(path);
    if (isFirst()) {
      for (const way of ['read', 'write']) {
        const file = `blkio.throttle.${way}_${kind}_device`;
        writeFileSync(join(this.#group, file), `${device} ${most === 'none' ? 0 : most}`);
      }
    } else {
      const value = most === 'none' ? 'max' : most;
      writeFileSync(join(this.#group, 'io.max'), `${device} r${kind}=${value} w${kind}=${value}`);
    }
  }

  /** From now on they are slow for this process. Does nothing while there are none. */
  add(pid: number | undefined): void {
    if (this.#devices.size > 0) writeFileSync(join(this.#group, 'cgroup.procs'), String(pid));
  }

  /** Nobody may have them open, and no process may be in the group. */
  [Symbol.dispose](): void {
    if (this.#devices.size === 0) return;
    for (const path of this.#devices.keys()) losetup('--detach', path);
    this.#devices.clear();
    rmdirSync(this.#group);
  }
}

function isFirst(): boolean {
  return existsSync(join(FIRST, 'blkio.throttle.write_bps_device'));
}

function losetup(...args: string[]): string {
  return execFileSync('losetup', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim();
}
