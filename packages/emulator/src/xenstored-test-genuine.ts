import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { XsOp } from '@xenpv/xenstore';
import { RawClient } from './xenstored-test-client.js';

const DAEMONS = ['/usr/lib/xen-4.17/bin/xenstored', '/usr/sbin/xenstored'];
const SHIM_SOURCE = fileURLToPath(new URL('./xenstored-genuine-shim.c', import.meta.url));

let shim: string | undefined;

/** What is missing to run the genuine C daemon here, or undefined. */
export function genuineMissing(): string | undefined {
  if (!DAEMONS.some(existsSync)) return 'needs the C xenstored of xen-utils-4.17';
  if (!existsSync('/usr/include/xenctrl.h')) return 'needs libxen-dev to build the shim';
  try {
    shim ??= buildShim();
    return undefined;
  } catch (error) {
    return `needs a C compiler to build the shim: ${(error as Error).message.split('\n')[0]}`;
  }
}

function buildShim(): string {
  const file = join(mkdtempSync(join(tmpdir(), 'xenstored-shim-')), 'shim.so');
  execFileSync('cc', ['-shared', '-fPIC', '-o', file, SHIM_SOURCE, '-lpthread', '-ldl'], { stdio: 'pipe' });
  return file;
}

/** The genuine C daemon under a shim that stands in for Xen. For tests. */
export class GenuineXenstored {
  readonly #dir: string;
  readonly #process: ChildProcess;

  private constructor(dir: string, process: ChildProcess) {
    this.#dir = dir;
    this.#process = process;
  }

  /** `options` for the command line. */
  static async start(options: readonly string[] = []): Promise<GenuineXenstored> {
    const dir = mkdtempSync(join(tmpdir(), 'xenstored-'));
    mkdirSync(dir, { recursive: true });
    const env = { SHIM_DIR: dir, XENSTORED_RUNDIR: dir, XENSTORED_PATH: join(dir, 'socket'), LD_PRELOAD: shim! };
    const process = spawn(DAEMONS.find(existsSync)!, ['-N', '-R', ...options], { env, stdio: 'ignore' });
    const daemon = new GenuineXenstored(dir, process);
    for (let tries = 0; !existsSync(daemon.socketPath); tries++) {
      if (tries > 2000 || process.exitCode !== null) throw new Error('the genuine xenstored does not start');
      await sleep(2);
    }
    return daemon;
  }

  get socketPath(): string {
    return join(this.#dir, 'socket');
  }

  get running(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null;
  }

  /** A client of a domain; domain 0 on the socket, others on their ring, after {@link createDomain}. */
  async connect(domid: number): Promise<RawClient> {
    if (domid === 0) return await connectRetrying(this.socketPath);
    return await connectRetrying(join(this.#dir, `dom${domid}.sock`));
  }

  /** Makes a domain that the daemon finds when it asks the hypervisor. */
  createDomain(domid: number): void {
    writeFileSync(join(this.#dir, `dom${domid}`), '');
  }

  /** Removes a domain and tells the daemon that something happened to some domain. */
  async destroyDomain(domid: number): Promise<void> {
    rmSync(join(this.#dir, `dom${domid}`));
    await new Promise<void>((resolve) => connect(join(this.#dir, 'virq.sock')).on('close', resolve).resume());
  }

  /** Introduces a domain through a client of domain 0. */
  async introduce(client: RawClient, domid: number): Promise<string> {
    return await client.ask(XsOp.introduce, `${domid}\x001\x005\0`);
  }

  /** Resident memory in bytes. */
  get memory(): number {
    const status = readFileSync(`/proc/${this.#process.pid}/status`, 'utf8');
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) * 1024;
  }

  async stop(): Promise<void> {
    if (this.running) {
      const gone = new Promise((resolve) => this.#process.once('exit', resolve));
      this.#process.kill('SIGKILL');
      await gone;
    }
    rmSync(this.#dir, { recursive: true, force: true });
  }
}

async function connectRetrying(path: string): Promise<RawClient> {
  for (let tries = 0; ; tries++) {
    try {
      return await RawClient.onSocket(path);
    } catch (error) {
      if (tries > 500) throw error;
      await sleep(2);
    }
  }
}
