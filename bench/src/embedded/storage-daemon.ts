import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { openFileImage } from '@xenpv/blockdev';
import { median } from '../../../scripts/lib/median.mjs';
import { readOverNbd } from '../reads/nbd-reads.js';
import { BenchHost } from './host.js';

const BLOCK = 4096;
const DEPTH = 32;
const WARM_UP_REQUESTS = 20_000;
const POLL_MS = 20;

/** Reads a second; medians of the rounds. */
export interface Comparison {
  readonly ours: number;
  readonly theirs: number;
  /** The median of the rounds' ratios. */
  readonly ratio: number;
}

/** Random 4 KiB reads at depth 32 of the same file: a guest through us, and fio through qemu-storage-daemon's NBD. */
export async function compareWithStorageDaemon(
  path: string,
  options: { seconds: number; rounds: number },
): Promise<Comparison> {
  const host = await BenchHost.start(() => openFileImage(path, { readOnly: true, direct: false }));
  const guest = await host.startGuest();
  await guest.connect(1, { ringPageOrder: 0 });
  const daemon = await StorageDaemon.start(path);
  try {
    const job = { operation: 'read', blockSize: BLOCK, depth: DEPTH, random: true, blocking: true } as const;
    const warm = await guest.load({ ...job, requests: WARM_UP_REQUESTS });
    const requests = Math.ceil((WARM_UP_REQUESTS / warm.seconds) * options.seconds);
    const rounds: { ours: number; theirs: number }[] = [];
    for (let round = 0; round < options.rounds; round++) {
      const { seconds } = await guest.load({ ...job, requests });
      rounds.push({ ours: requests / seconds, theirs: await readOverNbd(daemon.socket, options.seconds) });
    }
    return {
      ours: median(rounds.map(({ ours }) => ours)),
      theirs: median(rounds.map(({ theirs }) => theirs)),
      ratio: median(rounds.map(({ ours, theirs }) => ours / theirs)),
    };
  } finally {
    await daemon.stop();
    await guest.close();
    await host.close();
  }
}

/**
 * A qemu-storage-daemon that exports one file as `disk` over NBD on a private socket. As a peer it gets the fastest
 * settings for a raw file; xen-blockd itself starts one for the other formats only, and supervises it.
 */
class StorageDaemon {
  readonly #child: ChildProcess;
  readonly #directory: string;

  private constructor(path: string) {
    this.#directory = mkdtempSync(join(tmpdir(), 'bench-qsd-'));
    const args = [
      ['--blockdev', `driver=file,node-name=file,filename=${path},read-only=on,aio=io_uring`],
      ['--nbd-server', `addr.type=unix,addr.path=${this.socket}`],
      ['--export', 'type=nbd,id=export,node-name=file,name=disk'],
    ];
    this.#child = spawn('qemu-storage-daemon', args.flat(), { stdio: 'ignore' });
  }

  /** Resolves when it listens. */
  static async start(path: string): Promise<StorageDaemon> {
    const daemon = new StorageDaemon(path);
    while (!(await listens(daemon.socket))) {
      if (!daemon.#runs) {
        await daemon.stop();
        throw new Error('qemu-storage-daemon ended at once');
      }
      await sleep(POLL_MS);
    }
    return daemon;
  }

  get socket(): string {
    return join(this.#directory, 'nbd');
  }

  async stop(): Promise<void> {
    if (this.#runs) {
      const exited = once(this.#child, 'exit');
      this.#child.kill();
      await exited;
    }
    rmSync(this.#directory, { recursive: true, force: true });
  }

  get #runs(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }
}

function listens(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const attempt = createConnection(socket);
    attempt.once('error', () => resolve(false));
    attempt.once('connect', () => {
      attempt.destroy();
      resolve(true);
    });
  });
}
