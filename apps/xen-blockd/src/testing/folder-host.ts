import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { EmulatedHost } from '@xenpv/emulator';
import { endProcessesOf, ownFolder } from '@xenpv/test-support/own-folder';
import { expect } from 'vitest';
import { BlockdProcess } from './process.js';

/** A machine that does much else starts a process in more than 15 seconds. */
const READY_MS = 60_000;

interface FolderHostOptions {
  /** How long its toolstack waits for a backend, in milliseconds. The host is in this process then: the program has libxl's ten seconds. */
  readonly toolstackMs?: number | undefined;
}

/** `xen-blockd host` in a folder of its own, and the daemons of it: each the real program in a process. */
export class FolderHost implements AsyncDisposable {
  readonly directory: string;
  readonly #endHost: () => Promise<unknown>;
  readonly #daemons = new Set<BlockdProcess>();

  private constructor(directory: string, endHost: () => Promise<unknown>) {
    this.directory = directory;
    this.#endHost = endHost;
  }

  static async start({ toolstackMs }: FolderHostOptions = {}): Promise<FolderHost> {
    const directory = ownFolder('/dev/shm', 'blockd');
    if (toolstackMs !== undefined) {
      const host = await EmulatedHost.create({ directory, toolstackTimeoutMs: toolstackMs });
      return new FolderHost(directory, () => host.close());
    }
    const host = new BlockdProcess(['host', '--dir', directory]);
    await host.line(`host ready ${directory}`);
    return new FolderHost(directory, () => {
      host.signal('SIGTERM');
      return host.ended;
    });
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  /** A daemon that is ready. */
  daemon(...args: string[]): Promise<BlockdProcess> {
    return this.daemonIn({}, ...args);
  }

  /** A daemon with more in its environment, that is ready. */
  async daemonIn(env: NodeJS.ProcessEnv, ...args: string[]): Promise<BlockdProcess> {
    const daemon = this.#start(env, args);
    await expect.poll(() => daemon.stderr, { timeout: READY_MS }).toContain('"ready"');
    return daemon;
  }

  /** A daemon that has just been started. */
  starting(...args: string[]): BlockdProcess {
    return this.#start({}, args);
  }

  /** A daemon that another program runs, such as setpriv, and that is ready. */
  async daemonUnder(under: readonly string[], ...args: string[]): Promise<BlockdProcess> {
    const daemon = this.#start({}, args, under);
    await daemon.says('"ready"');
    return daemon;
  }

  #start(env: NodeJS.ProcessEnv, args: string[], under: readonly string[] = []): BlockdProcess {
    const all = ['run', '--emulator', this.directory, '--log-format', 'json', ...args];
    const daemon = new BlockdProcess(all, env, { under });
    this.#daemons.add(daemon);
    return daemon;
  }

  async kill(daemon: BlockdProcess, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    this.#daemons.delete(daemon);
    daemon.signal(signal);
    await daemon.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const daemon of this.#daemons) await this.kill(daemon);
    await this.#endHost();
    // Storage helpers outlive their daemons.
    endProcessesOf(this.directory);
    rmSync(this.directory, { recursive: true });
  }
}
