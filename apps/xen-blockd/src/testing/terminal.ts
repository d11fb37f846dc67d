import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { PROGRAM } from './process.js';

export interface TerminalSize {
  readonly columns: number;
  readonly rows: number;
}

const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;

/** What is left of the terminal when the program has ended. */
export interface TerminalOutcome {
  /** Of the program; 128 and more for a signal. */
  readonly code: number;
  /** Whether the terminal shows what is typed, and hands lines over, as before. */
  readonly restored: boolean;
}

/** The built program on a terminal of its own, which `script` of util-linux makes. */
export class TerminalBlockd implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;
  readonly #waiters = new Set<() => void>();
  #output = '';

  private constructor(args: readonly string[], { columns, rows }: TerminalSize, env: NodeJS.ProcessEnv) {
    const words = [process.execPath, PROGRAM, ...args].map(quoted).join(' ');
    // It tells which terminal it is, who the program is, and at the end what is left.
    const lines = [
      `stty columns ${columns} rows ${rows}`,
      'echo "terminal $(tty)."',
      `sh -c 'echo "process $$."; exec "$@"' sh ${words}`,
      'echo "exit $?."',
      'echo "settings $(stty -a | tr "\\n" " ")."',
    ];
    this.#child = spawn('script', ['-qec', lines.join('\n'), '/dev/null'], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, TERM: 'xterm', NO_COLOR: '', SHELL: '/bin/sh', ...env },
    });
    this.#child.stdin?.on('error', () => {});
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#output += text;
      for (const wake of this.#waiters) wake();
    });
    this.#ended = new Promise((resolve) => this.#child.on('close', resolve));
    void this.#ended.then(() => {
      for (const wake of this.#waiters) wake();
    });
  }

  static async start(
    args: readonly string[],
    size: TerminalSize = { columns: 80, rows: 24 },
    env: NodeJS.ProcessEnv = {},
  ): Promise<TerminalBlockd> {
    const terminal = new TerminalBlockd(args, size, env);
    await terminal.until((output) => /process \d+\./.test(output));
    return terminal;
  }

  /** All that was written to the terminal. */
  get output(): string {
    return this.#output;
  }

  /** What the program has written last, from the beginning of a screen on. */
  get screen(): string {
    const [, own = ''] = this.#output.split(/process \d+\.\r?\n/);
    return own.slice(Math.max(0, own.lastIndexOf('\u001b[H')));
  }

  /** Waits until this holds for all output. Rejects when the program ends before. */
  async until(holds: (output: string) => boolean): Promise<void> {
    while (!holds(this.#output) && this.#child.exitCode === null) {
      await new Promise<void>((resolve) => this.#waiters.add(resolve));
    }
    if (!holds(this.#output)) throw new Error(`it ended, and had written: ${JSON.stringify(this.#output)}`);
  }

  /** Waits until the screen, without colours, has that. */
  shows(text: string | RegExp): Promise<void> {
    return this.until(() =>
      typeof text === 'string' ? this.lines.join('\n').includes(text) : text.test(this.lines.join('\n')),
    );
  }

  /** The lines of the screen without colours and moves. */
  get lines(): string[] {
    return this.screen.replace(/\u001b\[[?\d;]*[A-Za-z]/g, '').split(/\r?\n/);
  }

  /** Presses keys. */
  type(keys: string): void {
    this.#child.stdin?.write(keys);
  }

  resize({ columns, rows }: TerminalSize): void {
    const [, path = ''] = /terminal (\S+)\./.exec(this.#output) ?? [];
    execFileSync('stty', ['-F', path, 'columns', `${columns}`, 'rows', `${rows}`]);
  }

  /** The process of the program. */
  get pid(): number {
    return Number(/process (\d+)\./.exec(this.#output)?.[1]);
  }

  signal(name: NodeJS.Signals): void {
    process.kill(this.pid, name);
  }

  async ended(): Promise<TerminalOutcome> {
    await this.#ended;
    const code = Number(/exit (\d+)\./.exec(this.#output)?.[1]);
    const settings = /settings ([^.]*)\./.exec(this.#output)?.[1] ?? '';
    const restored = [' icanon ', ' echo ', ' isig '].every((setting) => settings.includes(setting));
    return { code, restored };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // `script` ends with its shell, and that with the program.
    if (this.#child.exitCode === null && !/exit \d+\./.test(this.#output)) this.signal('SIGKILL');
    await this.#ended;
    this.#child.stdin?.destroy();
  }
}
