import { type ChildProcess, spawn } from 'node:child_process';
import { appendFileSync, mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';

/** The package of xen-blockd, whose built program is what is killed. */
const APP = fileURLToPath(new URL('../../apps/xen-blockd/', import.meta.url));
const PROGRAM = join(APP, 'dist', 'main.js');

/**
 * Before the program begins: loads a module that it will load, and waits for a byte. What takes Node longest
 * is done while another daemon still serves, so that more kills fit into an hour. SIGUSR2 collects garbage, so that what a
 * process has can be told from what V8 has not looked at yet.
 */
const PRELOAD = `
import { readSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { isMainThread } from 'node:worker_threads';
await Promise.all(process.env.CRASH_PRELOAD.split(' ').map((module) => import(module)));
if (isMainThread) {
  setFlagsFromString('--expose-gc');
  process.on('SIGUSR2', runInNewContext('() => gc()'));
}
readSync(0, Buffer.alloc(1));
`;
const PRELOADED = ['@xenpv/xen-sys'];

/** After that time there is nothing that could be served at once. */
const NOTHING_TO_SERVE_MS = 200;

export interface DaemonOptions {
  readonly directory: string;
  readonly engine: string;
  readonly threads: number;
  readonly args: readonly string[];
  /** Where the log of each life goes. */
  readonly logs: string;
  readonly number: number;
  /** Told of the process before it does anything. */
  readonly spawned: (pid: number | undefined) => void;
}

export interface DaemonEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A life of the daemon: the built program in a process, on the host in a folder. */
export class DaemonLife {
  readonly number: number;
  readonly log: string;
  /** Resolves when the process is ready, or has ended. */
  readonly ready: Promise<void>;
  /** Resolves when a disk is served, or there was none for a while, or the process has ended. */
  readonly serving: Promise<void>;
  readonly ended: Promise<DaemonEnd>;
  /** When it began, and when it was ready, by performance.now(). */
  began = 0;
  readyAt = 0;
  /** Disks that were taken over, and requests in flight that were. */
  adopted = 0;
  recovered = 0;
  readonly #child: ChildProcess;
  #tellReady: () => void = () => {};
  #tellServing: () => void = () => {};
  #rest = '';

  /** Prepares a process; it does nothing until `begin`. */
  constructor({ directory, engine, threads, args, logs, number, spawned }: DaemonOptions) {
    this.number = number;
    mkdirSync(logs, { recursive: true });
    this.log = join(logs, `daemon-${number % 64}.log`);
    const preload = `data:text/javascript,${encodeURIComponent(PRELOAD)}`;
    const command = [PROGRAM, 'run', '--emulator', directory, '--engine', engine, '--threads', String(threads)];
    this.#child = spawn(process.execPath, ['--import', preload, ...command, '--log-format', 'json', ...args], {
      stdio: ['pipe', 'ignore', 'pipe'],
      // Not with a terminal's Ctrl-C, which ends the round in its order.
      detached: true,
      env: { ...process.env, CRASH_PRELOAD: modulesOf(PRELOADED) },
    });
    spawned(this.#child.pid);
    this.#child.stdin?.on('error', () => {});
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => this.#hear(text));
    this.ended = new Promise((resolve) => this.#child.on('exit', (code, signal) => resolve({ code, signal })));
    this.ready = new Promise((resolve) => {
      this.#tellReady = resolve;
    });
    this.serving = new Promise((resolve) => {
      this.#tellServing = resolve;
    });
    void this.ended.then(() => {
      this.#tellReady();
      this.#tellServing();
    });
    void this.ready.then(() => sleep(NOTHING_TO_SERVE_MS)).then(() => this.#tellServing());
  }

  begin(): void {
    this.began = performance.now();
    this.#child.stdin?.end('x');
  }

  get isReady(): boolean {
    return this.readyAt > 0;
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Its main thread collects garbage, soon. */
  collect(): void {
    this.signal('SIGUSR2');
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  /** Lines of its log that tell of a fault of its own. */
  readonly faults: string[] = [];

  #hear(text: string): void {
    appendFileSync(this.log, this.#rest === '' && !this.isReady ? `# life ${this.number}\n${text}` : text);
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) this.#line(line);
  }

  #line(line: string): void {
    if (line.includes('"msg":"ready"')) {
      this.readyAt = performance.now();
      this.#tellReady();
    }
    if (line.includes('"msg":"serving"')) {
      this.#tellServing();
      if (line.includes('"adopted":true')) this.adopted++;
      this.recovered += Number(/"recovered":(\d+)/.exec(line)?.[1] ?? 0);
    }
    if (/"msg":"unexpected: |a fault of xen-blockd|nobody looked at it|^\s*at .*\.js:/.test(line))
      this.faults.push(line);
  }
}

/** Where the modules are that the program imports, as addresses. */
function modulesOf(names: readonly string[]): string {
  const { resolve } = createRequire(PROGRAM);
  return names.map((name) => pathToFileURL(resolve(name)).href).join(' ');
}
