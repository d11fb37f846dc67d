import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { promisify } from 'node:util';
import { freePort } from '@xenpv/test-support/ports';
import { expect } from 'vitest';

const run = promisify(execFile);
const SOON = { timeout: 20_000, interval: 50 };
/** Of tgtd's control sockets, which are numbered: one a process of tests. */
const CONTROL = String(1000 + (process.pid % 30_000));

/** tgtd, an iSCSI server without a kernel module, on loopback. */
export class IscsiServer implements AsyncDisposable {
  static readonly iqn = 'iqn.2026-01.org.example:disk';
  readonly port: number;
  readonly #image: string;
  #server: ChildProcess | undefined;
  #user: { readonly name: string; readonly password: string } | undefined;

  private constructor(port: number, image: string) {
    this.port = port;
    this.#image = image;
  }

  /** Serves a file as unit 1. */
  static async start(image: string): Promise<IscsiServer> {
    const server = new IscsiServer(await freePort(), image);
    await server.start();
    return server;
  }

  target(user = ''): string {
    return `iscsi://${user && `${user}@`}127.0.0.1:${this.port}/${IscsiServer.iqn}/1`;
  }

  async start(): Promise<void> {
    const portal = `portal=127.0.0.1:${this.port}`;
    const server = spawn('tgtd', ['-f', '-C', CONTROL, '--iscsi', portal], { stdio: 'ignore' });
    this.#server = server;
    const make = () => this.#ask('new', 'target', '-T', IscsiServer.iqn).then(() => true);
    await expect.poll(() => make().catch(() => false), SOON).toBe(true);
    await this.#ask('new', 'logicalunit', '--lun', '1', '-b', this.#image);
    if (this.#user) await this.#bindUser(this.#user);
    await this.#ask('bind', 'target', '-I', 'ALL');
  }

  /** From now on who logs in has to be that one. */
  async ask(name: string, password: string): Promise<void> {
    this.#user = { name, password };
    await this.#bindUser(this.#user);
  }

  /** The size that the file has is not the unit's before the server starts again. */
  async kill(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (!server || server.exitCode !== null || server.signalCode !== null) return;
    server.kill('SIGKILL');
    await once(server, 'exit');
  }

  /** What a network that is cut looks like: it is there, and nothing comes of it. */
  pause(): void {
    this.#server?.kill('SIGSTOP');
  }

  resume(): void {
    this.#server?.kill('SIGCONT');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    for (const end of ['', '.lock']) rmSync(`/var/run/tgtd/socket.${CONTROL}${end}`, { force: true });
  }

  async #bindUser({ name, password }: { name: string; password: string }): Promise<void> {
    await run('tgtadm', [
      '-C',
      CONTROL,
      '--lld',
      'iscsi',
      '--op',
      'new',
      '--mode',
      'account',
      '--user',
      name,
      '--password',
      password,
    ]);
    await this.#ask('bind', 'account', '--user', name);
  }

  async #ask(op: string, mode: string, ...args: string[]): Promise<void> {
    await run('tgtadm', ['-C', CONTROL, '--lld', 'iscsi', '--op', op, '--mode', mode, '--tid', '1', ...args]);
  }
}
