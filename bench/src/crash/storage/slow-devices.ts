import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';

/** Enough for many requests to be in the block layer when their process is killed. */
const OPERATIONS_PER_SECOND = 400;
const FIRST = '/sys/fs/cgroup/blkio';
const SECOND = '/sys/fs/cgroup';

/**
 * Loop devices that the kernel's I/O throttle makes slow for the processes of a control group. As slow storage does, it
 * has their requests even when they are gone.
 */
export class SlowDevices implements Disposable {
  readonly #group = join(isFirst() ? FIRST : SECOND, `xen-crash-${process.pid}`);
  readonly #paths: string[] = [];

  /** Why there can be none, or undefined. */
  static get missing(): string | undefined {
    if (process.getuid?.() !== 0) return 'loop devices need root';
    if (!existsSync('/dev/loop-control')) return 'there is no /dev/loop-control';
    return isFirst() || existsSync(join(SECOND, 'io.stat')) ? undefined : 'there is no control group of block I/O';
  }

  /** The path of a new device with a file's bytes. */
  create(backing: string): string {
    mkdirSync(this.#group, { recursive: true });
    const path = execFileSync('losetup', ['--find', '--show', backing], { encoding: 'utf8' }).trim();
    this.#paths.push(path);
    const device = readFileSync(`/sys/class/block/${basename(path)}/dev`, 'latin1').trim();
    const limit = OPERATIONS_PER_SECOND;
    if (!isFirst()) writeFileSync(join(this.#group, 'io.max'), `${device} riops=${limit} wiops=${limit}`);
    else {
      for (const way of ['read', 'write']) {
        writeFileSync(join(this.#group, `blkio.throttle.${way}_iops_device`), `${device} ${limit}`);
      }
    }
    return path;
  }

  /** From now on they are slow for this process. */
  add(pid: number | undefined): void {
    if (this.#paths.length > 0) writeFileSync(join(this.#group, 'cgroup.procs'), String(pid));
  }

  /** Nobody may have them open. */
  [Symbol.dispose](): void {
    if (this.#paths.length === 0) return;
    for (const path of this.#paths.splice(0)) execFileSync('losetup', ['--detach', path]);
    rmdirSync(this.#group);
  }
}

function isFirst(): boolean {
  return existsSync(join(FIRST, 'blkio.throttle.write_iops_device'));
}
