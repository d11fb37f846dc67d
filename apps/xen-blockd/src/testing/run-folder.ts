import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { RunningBlockd, type RunOptions } from './process.js';

/** A folder with an image, a configuration and the sockets of a daemon that runs as a process of its own. */
export class RunFolder implements AsyncDisposable {
  readonly directory = mkdtempSync(join(tmpdir(), 'blockd-run-'));
  readonly image = this.path('image');
  readonly control = this.path('control');
  readonly config = this.path('config.toml');
  #daemon: RunningBlockd | undefined;

  constructor() {
    writeFileSync(this.image, Buffer.alloc(1 << 20));
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  /** Lines of TOML, besides those that keep the daemon inside of this folder. */
  configure(...lines: string[]): void {
    const given = lines.join('\n');
    const own = [`control-socket = "${this.control}"`, `journal-directory = "${this.path('journal')}"`];
    const defaults = [...own, 'nbd-directory = false', 'threads = 0'].filter(
      (line) => !lines.some((other) => other.startsWith(line.split(' ')[0])),
    );
    writeFileSync(this.config, `${defaults.join('\n')}\n${given}\n`);
  }

  /** Starts the daemon with the configuration that was made last. Its lock is in this folder: others are none of its business. */
  run(args: string[] = [], options: RunOptions = {}): RunningBlockd {
    const env = { XENSTORED_PATH: this.path('xenstored'), ...options.env };
    this.#daemon = RunningBlockd.run(['--config', this.config, ...args], { ...options, env });
    return this.#daemon;
  }

  /** A counter with these labels and no others, from the metrics on the socket `metrics` of this folder. */
  metric(name: string, labels: Readonly<Record<string, string | number>> = {}): Promise<number> {
    const words = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
    const line = words.length > 0 ? `${name}{${words.join(',')}}` : name;
    return new Promise((resolve, reject) => {
      const asked = request({ socketPath: this.path('metrics'), path: '/metrics' }, async (response) => {
        const [, value] = new RegExp(`^xen_blockd_${line} (\\d+)`, 'm').exec(await text(response)) ?? [];
        resolve(Number(value));
      });
      asked.on('error', reject).end();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#daemon?.[Symbol.asyncDispose]();
    rmSync(this.directory, { recursive: true, force: true });
  }
}
