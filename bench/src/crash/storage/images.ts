import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { XlDisk } from '@xenpv/emulator';
import { ThrottledDevices } from '@xenpv/test-support/throttled-devices';
import { isInstalled } from '../../program/is-installed.js';
import { SECTOR } from '../model.js';
import type { Storage } from '../setup.js';

const POLL_MS = 10;
/** Of a slow device: many requests are in the block layer when their process is killed. */
const SLOW_IOPS = 400;

/** What is under a guest's disk. */
export interface CrashImage extends AsyncDisposable {
  /** How the toolstack names it. */
  readonly disk: Pick<XlDisk, 'target' | 'format'>;
  /** Whether `grow` is possible. */
  readonly grows: boolean;
  grow(sectors: number): void;
  /** All of it, when nobody uses it any more. */
  content(): Promise<Int32Array>;
}

/** Makes an image of zeroes; its files begin with `path`. */
export async function createImage(
  storage: Storage,
  { path, sectors, devices }: { path: string; sectors: number; devices: ThrottledDevices },
): Promise<CrashImage> {
  if (storage === 'loop') return new LoopImage(path, sectors, devices);
  if (storage === 'qcow2') return new Qcow2Image(path, sectors);
  if (storage === 'nbd') return ServedImage.start(path, sectors);
  return new FileImage(path, sectors);
}

/** Why this storage cannot be had here, or undefined. */
export function missingFor(storage: Storage): string | undefined {
  if (storage === 'qcow2' && !isInstalled('qemu-storage-daemon')) return 'qemu-storage-daemon is not installed';
  if (storage === 'nbd' && !isInstalled('qemu-nbd')) return 'qemu-nbd is not installed';
  return storage === 'loop' ? ThrottledDevices.missing : undefined;
}

/** The processes of storage helpers whose sockets are below `folder`. */
export function helpersOf(folder: string): readonly number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && isHelper(`/proc/${name}/cmdline`, folder))
    .map(Number);
}

function isHelper(commandLine: string, folder: string): boolean {
  try {
    const text = readFileSync(commandLine, 'utf8');
    return text.includes('qemu-storage-daemon') && text.includes(folder);
  } catch {
    return false;
  }
}

class FileImage implements CrashImage {
  readonly grows = true;
  readonly #path: string;

  constructor(path: string, sectors: number) {
    this.#path = path;
    writeFileSync(path, '');
    truncateSync(path, sectors * SECTOR);
  }

  get disk() {
    return { target: this.#path };
  }

  grow(sectors: number): void {
    truncateSync(this.#path, sectors * SECTOR);
  }

  async content(): Promise<Int32Array> {
    return wordsOf(this.#path);
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}

class LoopImage implements CrashImage {
  readonly grows = false;
  readonly disk: { readonly target: string };

  constructor(path: string, sectors: number, devices: ThrottledDevices) {
    writeFileSync(path, '');
    truncateSync(path, sectors * SECTOR);
    const target = devices.create(path);
    devices.limit(target, 'iops', SLOW_IOPS);
    this.disk = { target };
  }

  grow(): void {}

  async content(): Promise<Int32Array> {
    return wordsOf(this.disk.target);
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}

class Qcow2Image implements CrashImage {
  readonly grows = false;
  readonly #path: string;

  constructor(path: string, sectors: number) {
    this.#path = `${path}.qcow2`;
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', this.#path, String(sectors * SECTOR)]);
  }

  get disk() {
    return { target: this.#path, format: 'qcow2' } as const;
  }

  grow(): void {}

  async content(): Promise<Int32Array> {
    execFileSync('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', this.#path, `${this.#path}.raw`]);
    return wordsOf(`${this.#path}.raw`);
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}

/** A file that QEMU's NBD server serves; it outlives the daemons. */
class ServedImage implements CrashImage {
  readonly grows = false;
  readonly #path: string;
  readonly #server: ChildProcess;

  private constructor(path: string, server: ChildProcess) {
    this.#path = path;
    this.#server = server;
  }

  static async start(path: string, sectors: number): Promise<ServedImage> {
    writeFileSync(path, '');
    truncateSync(path, sectors * SECTOR);
    const socket = `${path}.sock`;
    const options = ['--persistent', '--shared=64', '--discard=unmap', '--cache=none', '--aio=threads', '--format=raw'];
    const log = openSync(`${path}.log`, 'a');
    const server = spawn('qemu-nbd', [...options, '-k', socket, path], { stdio: ['ignore', log, log], detached: true });
    closeSync(log);
    while (!existsSync(socket) && server.exitCode === null) await sleep(POLL_MS);
    return new ServedImage(path, server);
  }

  get disk() {
    return { target: `nbd+unix:///?socket=${this.#path}.sock` };
  }

  grow(): void {}

  async content(): Promise<Int32Array> {
    await this[Symbol.asyncDispose]();
    return wordsOf(this.#path);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#server.exitCode !== null || this.#server.signalCode !== null) return;
    const ended = once(this.#server, 'exit');
    this.#server.kill('SIGTERM');
    await ended;
  }
}

function wordsOf(path: string): Int32Array {
  const bytes = readFileSync(path);
  return new Int32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
}
