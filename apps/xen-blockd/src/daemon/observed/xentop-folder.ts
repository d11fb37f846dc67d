import { closeSync, lstatSync, mkdirSync, openSync, readdirSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { DeviceAddress } from '@xenpv/xenbus';
import { errorCode } from '../../errors.js';

/** Folders with this file in them are ours; tapdisk's have others. */
const MARK = 'xen-blockd';
const NAME = /^td3-(\d+)$/;

/** The folder in which libxenstat finds the figures of this process's disks: `td3-PID`, with a file for each disk. */
export class XentopFolder implements Disposable {
  readonly #path: string;
  readonly #files = new Map<string, number>();

  private constructor(path: string) {
    this.#path = path;
  }

  /**
   * Makes it in `directory`, where anybody may make something. Those that processes which are gone have left are removed.
   * Errors: those of the file system; EEXIST, somebody else has made it.
   */
  static make(directory: string): XentopFolder {
    removeLeft(directory);
    const path = join(directory, `td3-${process.pid}`);
    mkdirSync(path, { mode: 0o700 });
    writeFileSync(join(path, MARK), '');
    return new XentopFolder(path);
  }

  /** Errors: those of the file system. */
  write({ domid, devid }: DeviceAddress, figures: Buffer): void {
    const name = `vbd-${domid}-${devid}`;
    const fd = this.#files.get(name) ?? openSync(join(this.#path, name), 'w', 0o600);
    this.#files.set(name, fd);
    writeSync(fd, figures, 0, figures.length, 0);
  }

  /** The disk is gone. */
  remove({ domid, devid }: DeviceAddress): void {
    const name = `vbd-${domid}-${devid}`;
    const fd = this.#files.get(name);
    if (fd === undefined) return;
    this.#files.delete(name);
    closeSync(fd);
    rmSync(join(this.#path, name), { force: true });
  }

  [Symbol.dispose](): void {
    for (const fd of this.#files.values()) closeSync(fd);
    this.#files.clear();
    rmSync(this.#path, { recursive: true, force: true });
  }
}

/** What a process that was killed has left; a folder of this process's number is none of its own. */
function removeLeft(directory: string): void {
  for (const name of readdirSync(directory)) {
    const [, pid] = NAME.exec(name) ?? [];
    const path = join(directory, name);
    if (pid === undefined || !isOurs(path) || (Number(pid) !== process.pid && isAlive(Number(pid)))) continue;
    rmSync(path, { recursive: true, force: true });
  }
}

function isOurs(path: string): boolean {
  const isOwn = (name: string) => lstatSync(name).uid === process.geteuid?.();
  try {
    return lstatSync(path).isDirectory() && isOwn(path) && isOwn(join(path, MARK));
  } catch {
    return false;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errorCode(error) !== 'ESRCH';
  }
}
