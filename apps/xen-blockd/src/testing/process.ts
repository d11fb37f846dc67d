import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { packageRoot } from '../package-root.js';
import type { ToolOutcome } from '../tools.js';

/** The built program. */
export const PROGRAM = fileURLToPath(new URL('dist/main.js', packageRoot));

/** The built program in a process of its own. */
export class BlockdProcess {
  readonly #child: ChildProcess;
  readonly #ended: Promise<ToolOutcome>;
  #stdout = '';
  #stderr = '';
  readonly #waiters = new Set<() => void>();

  constructor(...args: string[]) {
    this.#child = spawn(process.execPath, [PROGRAM, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child.stdout!.on('data', (chunk) => {
      this.#stdout += chunk;
      for (const wake of this.#waiters) wake();
    });
    this.#child.stderr!.on('data', (chunk) => {
      this.#stderr += chunk;
    });
    this.#ended = new Promise((resolve) => {
      this.#child.on('close', (code) => {
        for (const wake of this.#waiters) wake();
        resolve({ code, stdout: this.#stdout, stderr: this.#stderr });
      });
    });
  }

  /** Waits until standard output has this line. Rejects when the process ends without it. */
  async line(text: string): Promise<void> {
    const seen = () => this.#stdout.split('\n').includes(text);
    while (!seen() && this.#child.exitCode === null) {
      await new Promise<void>((resolve) => this.#waiters.add(resolve));
    }
    if (!seen()) throw new Error(`it ended without "${text}": ${this.#stderr}`);
  }

  /** Standard output so far. */
  get stdout(): string {
    return this.#stdout;
  }

  /** Standard error so far. */
  get stderr(): string {
    return this.#stderr;
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  get ended(): Promise<ToolOutcome> {
    return this.#ended;
  }
}

/** Runs the built program to its end. */
export function runBlockd(...args: string[]): Promise<ToolOutcome> {
  return new BlockdProcess(...args).ended;
}
