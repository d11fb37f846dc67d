import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { RemoteHost } from '@xenpv/emulator';

/** A host in a process of its own, in a folder. */
export class HostProcess {
  readonly #child: ChildProcess;
  /** What it is asked through. */
  readonly remote: RemoteHost;

  private constructor(child: ChildProcess, remote: RemoteHost) {
    this.#child = child;
    this.remote = remote;
  }

  static async start(directory: string): Promise<HostProcess> {
    const child = fork(new URL('host-program.mjs', import.meta.url), [directory]);
    await once(child, 'message');
    return new HostProcess(child, await RemoteHost.connect(directory));
  }

  /** Ends it in order; resolves with the exit code. */
  close(): Promise<number | null> {
    return this.#end('SIGTERM');
  }

  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  async #end(signal: NodeJS.Signals): Promise<number | null> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const ended = once(this.#child, 'exit');
      this.#child.kill(signal);
      await ended;
    }
    return this.#child.exitCode;
  }
}
