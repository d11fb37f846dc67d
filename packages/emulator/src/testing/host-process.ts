import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import type { DomainConfig } from '../host.js';
import type { DomainUsage } from '../machine/machine.js';

/** A host in a process of its own. */
export class HostProcess {
  readonly #child: ChildProcess;
  readonly #calls = new Map<number, { resolve: (result: never) => void; reject: (error: Error) => void }>();
  #next = 0;

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.on('message', (message) => {
      const { id, result, error } = message as { id: number; result: never; error?: string };
      const call = this.#calls.get(id);
      this.#calls.delete(id);
      if (error === undefined) call?.resolve(result);
      else call?.reject(new Error(error));
    });
  }

  static async start(directory: string): Promise<HostProcess> {
    const child = fork(new URL('host-program.mjs', import.meta.url), [directory]);
    const host = new HostProcess(child);
    await once(child, 'message');
    return host;
  }

  create(config: DomainConfig): Promise<number> {
    return this.#call('create', config);
  }

  destroy(domid: number): Promise<void> {
    return this.#call('destroy', domid);
  }

  usage(domid: number): Promise<DomainUsage> {
    return this.#call('usage', domid);
  }

  async close(): Promise<void> {
    const ended = once(this.#child, 'exit');
    await this.#call('close', undefined);
    await ended;
  }

  async kill(): Promise<void> {
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await ended;
  }

  #call<T>(command: string, argument: unknown): Promise<T> {
    const id = this.#next++;
    return new Promise<T>((resolve, reject) => {
      this.#calls.set(id, { resolve, reject });
      this.#child.send({ id, command, argument });
    });
  }
}
