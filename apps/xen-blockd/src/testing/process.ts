import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Blkfront } from '@xenpv/blkfront';
import type { EmulatedHost } from '@xenpv/emulator';
import type { XenProvider } from '@xenpv/xen-sys';
import type { XenstoreClient } from '@xenpv/xenstore';
import { packageRoot } from '../package-root.js';
import type { ToolOutcome } from '../tools.js';

/** The built program. */
export const PROGRAM = fileURLToPath(new URL('dist/main.js', packageRoot));
const EMULATED_XEN = fileURLToPath(new URL('src/testing/emulated-xen.mjs', packageRoot));

interface SpawnOptions {
  readonly preload?: readonly string[];
  readonly stdio?: StdioOptions;
  /** A program and its arguments that run it. */
  readonly under?: readonly string[];
  /** Another build of it. */
  readonly program?: string;
}

/** The built program in a process of its own. */
export class BlockdProcess {
  readonly child: ChildProcess;
  readonly #ended: Promise<ToolOutcome>;
  #stdout = '';
  #stderr = '';
  readonly #waiters = new Set<() => void>();

  constructor(args: string[], env: NodeJS.ProcessEnv = {}, options: SpawnOptions = {}) {
    const { preload = [], stdio = ['ignore', 'pipe', 'pipe'], under = [] } = options;
    const built = options.program ?? PROGRAM;
    const [program, ...words] = [...under, process.execPath, ...preload, built, ...args];
    this.child = spawn(program, words, { stdio, env: { ...process.env, ...env } });
    this.child.stdout?.on('data', (chunk) => {
      this.#stdout += chunk;
      for (const wake of this.#waiters) wake();
    });
    this.child.stderr?.on('data', (chunk) => {
      this.#stderr += chunk;
      for (const wake of this.#waiters) wake();
    });
    this.#ended = new Promise((resolve) => {
      this.child.on('close', (code) => {
        for (const wake of this.#waiters) wake();
        resolve({ code, stdout: this.#stdout, stderr: this.#stderr });
      });
    });
  }

  /** What standard error had until now. */
  get stderr(): string {
    return this.#stderr;
  }

  /** Waits until standard output has this line. Rejects when the process ends without it. */
  line(text: string): Promise<void> {
    return this.until(() => this.#stdout.split('\n').includes(text), text);
  }

  /** Waits until standard error has this text. Rejects when the process ends without it. */
  says(text: string): Promise<void> {
    return this.until(() => this.#stderr.includes(text), text);
  }

  protected async until(seen: () => boolean, text: string): Promise<void> {
    while (!seen() && this.child.exitCode === null && this.child.signalCode === null) {
      await new Promise<void>((resolve) => this.#waiters.add(resolve));
    }
    if (!seen()) throw new Error(`it ended without "${text}": ${this.#stderr}`);
  }

  /** Standard output so far. */
  get stdout(): string {
    return this.#stdout;
  }

  signal(name: NodeJS.Signals): void {
    this.child.kill(name);
  }

  get ended(): Promise<ToolOutcome> {
    return this.#ended;
  }
}

/** What a test's function gets inside of the daemon's process. */
export interface EmulatedXen {
  readonly host: EmulatedHost;
  /** A connection of domain 0. */
  readonly store: XenstoreClient;
  /** What the test wants to find again. */
  readonly kept: Record<string, unknown>;
  provider(): XenProvider;
  guestStore(domid: number): Promise<XenstoreClient>;
  connect(domid: number): Promise<Blkfront>;
}

/** How standard error is connected: a pipe that is read, or a descriptor. */
export interface RunOptions {
  readonly stderr?: 'pipe' | number;
  readonly stdout?: 'pipe' | number;
  readonly env?: NodeJS.ProcessEnv;
  /** A program and its arguments that run it, in the same process. */
  readonly under?: readonly string[];
}

/** `xen-blockd run` as the built program, in a process of its own whose Xen is an embedded host. */
export class RunningBlockd extends BlockdProcess implements AsyncDisposable {
  #asked = 0;

  static run(args: string[], options: RunOptions = {}): RunningBlockd {
    const { stdout = 'pipe', stderr = 'pipe', env, under = [] } = options;
    const stdio: StdioOptions = ['ignore', stdout, stderr, 'ipc'];
    return new RunningBlockd(['run', ...args], env, { preload: ['--import', EMULATED_XEN], stdio, under });
  }

  /** Waits until disks are served; the log is JSON or text. */
  ready(): Promise<void> {
    return this.until(() => /"msg":"ready"|^(<6>|info +)ready /m.test(this.stderr), 'ready');
  }

  /** Runs `work` in the daemon's process; it sees nothing of the test but its arguments. */
  inXen<A extends unknown[], T>(work: (xen: EmulatedXen, ...args: A) => Promise<T>, ...args: A): Promise<T> {
    const id = ++this.#asked;
    return new Promise((resolve, reject) => {
      const answered = (message: { id: number; value?: T; error?: string }) => {
        if (message.id !== id) return;
        this.child.off('message', answered);
        if (message.error === undefined) resolve(message.value as T);
        else reject(new Error(message.error));
      };
      this.child.on('message', answered);
      this.child.once('exit', () => reject(new Error(`the process ended: ${this.stderr}`)));
      this.child.send({ id, source: String(work), args });
    });
  }

  /** A guest whose disk is connected, and its first bytes read; resolves with its domid. */
  attach(target: string): Promise<number> {
    return this.inXen(async ({ host, connect, kept }, path) => {
      const { domid } = await host.createDomain({ name: 'guest' });
      await host.toolstack.attachDisk(domid, { vdev: 'xvda', target: path });
      const guest = await connect(domid);
      await guest.read(0, 4096);
      kept[domid] = guest;
      return domid;
    }, target);
  }

  /** Whether the guest's disk answers. */
  async reads(domid: number): Promise<boolean> {
    return this.inXen(async ({ kept }, id) => {
      await (kept[id] as Blkfront).read(0, 4096);
      return true;
    }, domid);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) this.signal('SIGKILL');
    await this.ended;
  }
}

/** Runs the built program to its end. */
export function runBlockd(...args: string[]): Promise<ToolOutcome> {
  return new BlockdProcess(args).ended;
}
