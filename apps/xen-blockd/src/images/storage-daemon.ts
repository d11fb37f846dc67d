import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type BlockImage, ImageWrapper, openNbdImage } from '@xenpv/blockdev';
import { BlockdError } from '../errors.js';
import { findTool } from '../tools.js';

/** QEMU's driver for each format that libxl writes into params. */
const DRIVERS: Readonly<Record<string, string>> = {
  qcow: 'qcow',
  qcow2: 'qcow2',
  qed: 'qed',
  vhd: 'vpc',
  vhdx: 'vhdx',
  vmdk: 'vmdk',
  vdi: 'vdi',
};

export const STORAGE_DAEMON_FORMATS: readonly string[] = Object.keys(DRIVERS);

const PROGRAM = 'qemu-storage-daemon';
const START_TIMEOUT_MS = 10_000;
const POLL_MS = 10;
/** Time to write back what it holds before it is killed. */
const STOP_TIMEOUT_MS = 10_000;
const EXPORT = 'disk';

export interface FormatImageOptions {
  /** One of {@link STORAGE_DAEMON_FORMATS}; never probed. */
  readonly format: string;
  readonly readOnly: boolean;
  /** Others may write it too: no locks. */
  readonly shared: boolean;
  /** Called for each daemon that ended and is started again. */
  readonly onRestart?: (reason: string) => void;
}

/**
 * Opens an image of a format that is not raw: a qemu-storage-daemon of its own reads it and serves it over NBD on a
 * private socket. So no format is parsed in the process that maps guests' memory. The format is the toolstack's, never
 * probed, because a guest writes its own first sectors. A daemon that dies is started again; meanwhile the NBD image
 * holds its requests, and no guest sees an error. It ends with the image.
 * Errors: ERR_TOOL if the program is missing, ERR_IMAGE if it refuses the image, ERR_TIMEOUT if it does not start.
 */
export async function openFormatImage(path: string, options: FormatImageOptions): Promise<BlockImage> {
  if (!findTool(PROGRAM)) {
    const advice = 'Debian: apt-get install qemu-system-common (or qemu-utils)';
    const message = `${path}: format ${options.format} needs ${PROGRAM}, which is not there; ${advice}`;
    throw new BlockdError('ERR_TOOL', 'open image', message, { path });
  }
  const daemon = new StorageDaemon(path, options);
  try {
    await daemon.start();
    const image = await openNbdImage(daemon.socket, { exportName: EXPORT, readOnly: options.readOnly });
    daemon.opened = true;
    return new FormatImage(image, path, daemon);
  } catch (error) {
    await daemon.stop();
    throw error;
  }
}

/** The daemon's export under the image's own name. */
class FormatImage extends ImageWrapper {
  readonly #path: string;
  readonly #daemon: StorageDaemon;

  constructor(image: BlockImage, path: string, daemon: StorageDaemon) {
    super(image);
    this.#path = path;
    this.#daemon = daemon;
  }

  override get engine(): string {
    return PROGRAM;
  }

  override get description(): string {
    return this.#path;
  }

  protected override closeOnce(): Promise<void> {
    return super.closeOnce().finally(() => this.#daemon.stop());
  }
}

/** One qemu-storage-daemon for one image. */
class StorageDaemon {
  readonly #path: string;
  readonly #options: FormatImageOptions;
  readonly #directory = mkdtempSync(join(tmpdir(), 'xen-blockd-qsd-'));
  #child: ChildProcess | undefined;
  #stopping = false;
  #stderr = '';
  /** After the image was opened an ended daemon is started again; before, `start` rejects. */
  opened = false;

  constructor(path: string, options: FormatImageOptions) {
    this.#path = path;
    this.#options = options;
  }

  get socket(): string {
    return join(this.#directory, 'nbd');
  }

  /** Resolves when it listens. */
  async start(): Promise<void> {
    const child = spawn(PROGRAM, this.#arguments(), { stdio: ['ignore', 'ignore', 'pipe'] });
    this.#child = child;
    this.#stderr = '';
    child.stderr!.on('data', (chunk) => {
      this.#stderr = `${this.#stderr}${chunk}`.slice(-2000);
    });
    child.on('error', (error) => {
      this.#stderr = error.message;
    });
    child.on('close', () => this.#ended(child));
    const deadline = performance.now() + START_TIMEOUT_MS;
    while (!existsSync(this.socket)) {
      if (this.#child !== child) throw this.#error('ERR_IMAGE', this.#reason());
      if (performance.now() > deadline) throw this.#error('ERR_TIMEOUT', `${PROGRAM} does not start`);
      await sleep(POLL_MS);
    }
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    const child = this.#child;
    if (child) {
      const closed = new Promise((resolve) => child.once('close', resolve));
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
      await closed;
      clearTimeout(timer);
    }
    rmSync(this.#directory, { recursive: true, force: true });
  }

  #error(code: 'ERR_IMAGE' | 'ERR_TIMEOUT', reason: string): BlockdError {
    return new BlockdError(code, `start ${PROGRAM}`, `${this.#path}: ${reason}`, { path: this.#path });
  }

  #arguments(): string[] {
    const { format, readOnly, shared } = this.#options;
    const file = { driver: 'file', filename: this.#path, locking: shared ? 'off' : 'auto' };
    const access = { 'read-only': readOnly, discard: 'unmap' };
    const node = { driver: DRIVERS[format], 'node-name': 'disk', ...access, file };
    const exported = `type=nbd,id=disk,node-name=disk,name=${EXPORT},writable=${readOnly ? 'off' : 'on'}`;
    const server = `addr.type=unix,addr.path=${this.socket}`;
    return ['--nbd-server', server, '--blockdev', JSON.stringify(node), '--export', exported];
  }

  /** The first line that it wrote, without its own name. */
  #reason(): string {
    const line = this.#stderr.split('\n').find((text) => text !== '') ?? `${PROGRAM} ended`;
    return line.replace(/^qemu-storage-daemon: (?:--blockdev .*?: )?/, '');
  }

  /** Its requests wait in the NBD client until the next one listens. */
  #ended(child: ChildProcess): void {
    if (this.#child === child) this.#child = undefined;
    rmSync(this.socket, { force: true });
    if (this.#stopping || !this.opened) return;
    this.#options.onRestart?.(this.#reason());
    void this.#restart();
  }

  async #restart(): Promise<void> {
    while (!this.#stopping) {
      try {
        return await this.start();
      } catch (error) {
        this.#options.onRestart?.((error as Error).message);
        await sleep(1000);
      }
    }
  }
}
