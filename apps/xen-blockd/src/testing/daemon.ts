import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import type { Blkfront } from '@xenpv/blkfront';
import { QmpClient, type QmpClientOptions, type QmpEvent } from '@xenpv/qmp';
import type { XenProvider } from '@xenpv/xen-sys';
import { pino } from 'pino';
import { expect } from 'vitest';
import type { Config } from '../daemon/config.js';
import { runDaemon } from '../daemon/process.js';
import { runTool } from '../tools.js';
import { EmbeddedHost } from './host.js';

const MIB = 1024 * 1024;

export interface Qcow2Disk {
  readonly guest: Blkfront;
  readonly device: string;
  readonly domid: number;
  readonly image: string;
  readonly content: Buffer;
}

/** The daemon in this process, on an embedded host with a directory of its own. */
export class TestDaemon implements AsyncDisposable {
  readonly host: EmbeddedHost;
  /** The log of the daemon that was started last. */
  lines: Record<string, unknown>[] = [];
  readonly #running = new Set<Promise<number>>();
  #stopped = false;

  private constructor(host: EmbeddedHost) {
    this.host = host;
  }

  static async create(): Promise<TestDaemon> {
    return new TestDaemon(await EmbeddedHost.create());
  }

  /** Resolves with the exit code when it was stopped. */
  start(config: Partial<Config> = {}, provider: XenProvider = this.host.host.provider(0)): Promise<number> {
    const defaults = {
      types: ['qdisk'],
      'log-level': 'debug',
      'control-socket': this.host.path('control'),
      'helper-directory': this.host.path('helpers'),
    };
    const lines: typeof this.lines = [];
    this.lines = lines;
    const logger = pino({ level: 'debug', base: null }, { write: (line) => lines.push(JSON.parse(line)) });
    const ended = runDaemon({ ...defaults, ...config } as Config, provider, logger);
    this.#running.add(ended);
    this.#stopped = false;
    return ended;
  }

  /** Starts it. Resolves when it is ready, with a client of its control socket, the events that the client hears, and the exit code to come. */
  async startControlled(config: Partial<Config> = {}, { answerMs }: Pick<QmpClientOptions, 'answerMs'> = {}) {
    const ended = this.start(config);
    await this.says('ready');
    const events: QmpEvent[] = [];
    const onEvent = (event: QmpEvent) => events.push(event);
    const client = await QmpClient.connect(this.host.path('control'), { answerMs, onEvent });
    return { client, events, ended };
  }

  /** Waits for a line of the log. */
  async says(message: string): Promise<void> {
    await expect.poll(() => this.lines.some(({ msg }) => msg === message)).toBe(true);
  }

  /** A signal is only an event here. */
  stop(): void {
    this.#stopped = true;
    process.emit('SIGTERM', 'SIGTERM');
  }

  /** When each daemon that was stopped has ended. Two at once are one too many for the lock. */
  async ended(): Promise<void> {
    await Promise.allSettled(this.#running);
  }

  /** A guest with a disk of random bytes, which is not connected yet. */
  async attach(name = 'image'): Promise<{ data: Buffer; domid: number }> {
    const data = randomBytes(2 * MIB);
    writeFileSync(this.host.path(name), data);
    const { domid } = await this.host.host.createDomain({ name });
    await this.host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target: this.host.path(name) });
    return { data, domid };
  }

  /** A guest that has written 4 MiB to a disk of 8 MiB; `content` is all that is on it. Needs qemu-img. */
  async attachQcow2(image: string, name: string): Promise<Qcow2Disk> {
    const { code, stderr } = await runTool('qemu-img', ['create', '-f', 'qcow2', image, '8M']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const { domid } = await this.host.host.createDomain({ name });
    await this.host.host.toolstack.attachDisk(domid, { vdev: 'xvda', target: `qcow2:${image}` });
    const guest = await this.host.connectGuest(domid);
    const content = Buffer.alloc(8 * MIB);
    randomBytes(4 * MIB).copy(content);
    await guest.write(0, content.subarray(0, 4 * MIB));
    return { guest, device: `qdisk-${domid}-51712`, domid, image, content };
  }

  /** Only a test that failed has left a daemon running; a second signal would end this process. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#stopped) this.stop();
    await this.ended();
    await this.host[Symbol.asyncDispose]();
  }
}
