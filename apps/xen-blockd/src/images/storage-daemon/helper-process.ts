import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import type { QmpClient } from '@xenpv/qmp';
import { BoundedText } from './bounded-text.js';

/** How a process ended, or why it did not begin. */
export interface ProcessEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** What it wrote to standard error: the beginning and the end of it. */
  readonly stderr: string;
  /** It could not be started. */
  readonly error?: Error;
  /** An earlier process has started it: nothing else is known. */
  readonly adopted?: boolean;
}

export interface HelperProcessOptions {
  readonly argv0?: string | undefined;
  readonly env?: NodeJS.ProcessEnv | undefined;
  /** Descriptors that it gets, from number 3 on. */
  readonly files: readonly number[];
}

/** A helper that runs, whoever has started it. */
export interface Helper {
  readonly ended: Promise<ProcessEnd>;
  /** How it ended, or undefined while it runs. */
  readonly end: ProcessEnd | undefined;
  readonly pid: number | undefined;
  /** The conversation with its monitor that is kept open, if there is one. */
  readonly monitor?: QmpClient;
  /** As {@link HelperProcess.stop}. */
  stop(graceMs: number): Promise<boolean>;
}

/** Time for the last of standard error to come once the process has ended: somebody else may hold that pipe. */
const DRAIN_MS = 1000;
/** A killed process that waits for its storage in the kernel ends when the storage answers, which may be never. */
const KILL_MS = 5000;

/**
 * A child process of its own process group: a signal from the terminal is not for it, and what it starts ends with it.
 * How it ended is told when all that it said is there.
 */
export class HelperProcess implements Helper {
  readonly ended: Promise<ProcessEnd>;
  #end: ProcessEnd | undefined;
  #child: ChildProcess | undefined;

  /** Never throws: a program that cannot be started is an end too. */
  constructor(program: string, args: readonly string[], options: HelperProcessOptions) {
    this.ended = this.#run(program, args, options).then((end) => {
      this.#end = end;
      return end;
    });
  }

  /** How it ended, or undefined while it runs. */
  get end(): ProcessEnd | undefined {
    return this.#end;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /**
   * Asks it to end, and kills it when it has not done so in `graceMs`. Resolves when it has ended, with true, or with
   * false when even that does not end it for now.
   */
  async stop(graceMs: number): Promise<boolean> {
    if (graceMs > 0) {
      this.#signal('SIGTERM');
      if (await this.#endsWithin(graceMs)) return true;
    }
    this.#signal('SIGKILL');
    if (await this.#endsWithin(KILL_MS)) return true;
    // This process need not wait for it either.
    this.#child?.unref();
    this.#child?.stderr?.destroy();
    return false;
  }

  #signal(signal: NodeJS.Signals): void {
    const pid = this.#child?.pid;
    if (pid === undefined || this.#end) return;
    try {
      process.kill(-pid, signal);
    } catch {
      // It has ended.
    }
  }

  async #endsWithin(ms: number): Promise<boolean> {
    const waited = new AbortController();
    const late = sleep(ms, false, { signal: waited.signal }).catch(() => false);
    const inTime = await Promise.race([this.ended.then(() => true), late]);
    waited.abort();
    return inTime;
  }

  #run(program: string, args: readonly string[], { files, ...options }: HelperProcessOptions): Promise<ProcessEnd> {
    return new Promise((resolve) => {
      const failed = (error: Error) => resolve({ code: null, signal: null, stderr: '', error });
      let child: ChildProcess;
      try {
        const stdio: StdioOptions = ['ignore', 'ignore', 'pipe', ...files];
        child = spawn(program, args, { ...options, detached: true, stdio });
      } catch (error) {
        failed(error as Error);
        return;
      }
      this.#child = child;
      const said = new BoundedText();
      child.stderr?.setEncoding('utf8').on('data', (text: string) => said.add(text));
      child.on('error', (error) => {
        if (child.pid === undefined) failed(error);
      });
      let drain: NodeJS.Timeout | undefined;
      child.on('exit', () => {
        // Who holds the pipe is of its process group.
        drain = setTimeout(() => {
          this.#signal('SIGKILL');
          drain = setTimeout(() => child.stderr?.destroy(), DRAIN_MS);
        }, DRAIN_MS);
      });
      child.on('close', (code, signal) => {
        clearTimeout(drain);
        if (child.pid !== undefined) resolve({ code, signal, stderr: said.text });
      });
    });
  }
}
