import { writeSync } from 'node:fs';
import type { ReadStream, WriteStream } from 'node:tty';

/** The terminal's other screen, without a cursor; and back to what was there before. */
const ENTER = '\u001b[?1049h\u001b[?25l';
const LEAVE = '\u001b[?25h\u001b[?1049l';

type TerminalOutput = WriteStream & { readonly fd: number };

/** What happens on a terminal. */
export interface ScreenListener {
  /** Keys were pressed: what the terminal sends for them. */
  input(text: string): void;
  /** It has another size, or has to be drawn again for another reason. */
  redraw(): void;
  /** It is gone. */
  lost(): void;
}

/**
 * A whole terminal, which is ours from the beginning to `close`: each key comes at once, and is not shown. However the
 * process ends, but for SIGKILL, the terminal is left as it was found.
 */
export class Screen implements Disposable {
  readonly #input: ReadStream;
  readonly #output: TerminalOutput;
  readonly #listener: ScreenListener;
  #closed = false;
  readonly #data = (text: string) => this.#listener.input(text);
  readonly #resized = () => this.#listener.redraw();
  readonly #lost = () => this.#listener.lost();
  readonly #exit = () => this[Symbol.dispose]();
  readonly #suspend = () => this.suspend();
  /** A shell that had stopped us has set its own mode. */
  readonly #continued = () => {
    this.#enter();
    this.#listener.redraw();
  };

  constructor(input: ReadStream, output: TerminalOutput, listener: ScreenListener) {
    this.#input = input;
    this.#output = output;
    this.#listener = listener;
    process.on('exit', this.#exit).on('SIGTSTP', this.#suspend).on('SIGCONT', this.#continued);
    output.on('resize', this.#resized).on('error', this.#lost).on('close', this.#lost);
    this.#enter();
    input.setEncoding('utf8').on('data', this.#data).on('end', this.#lost).on('error', this.#lost).resume();
  }

  /** A terminal that does not say how large it is is taken for one of the oldest. */
  get size(): { readonly columns: number; readonly rows: number } {
    return { columns: this.#output.columns || 80, rows: this.#output.rows || 24 };
  }

  /** Lines from the top of the screen on; what is below is cleared. */
  draw(lines: readonly string[]): void {
    if (!this.#closed) this.#output.write(`\u001b[H${lines.map((line) => `${line}\u001b[K`).join('\r\n')}\u001b[J`);
  }

  /** Gives the terminal back to the shell, until that has us go on. */
  suspend(): void {
    this.#leave();
    process.kill(process.pid, 'SIGSTOP');
  }

  #enter(): void {
    this.#input.setRawMode(true);
    this.#output.write(ENTER);
  }

  #leave(): void {
    try {
      this.#input.setRawMode(false);
      // At the end of a process nothing is written later.
      writeSync(this.#output.fd, LEAVE);
    } catch {
      // The terminal is gone.
    }
  }

  /** Harmless when repeated. */
  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    process.off('exit', this.#exit).off('SIGTSTP', this.#suspend).off('SIGCONT', this.#continued);
    this.#output.off('resize', this.#resized).off('error', this.#lost).off('close', this.#lost);
    this.#input.off('data', this.#data).off('end', this.#lost).off('error', this.#lost).pause();
    this.#leave();
  }
}
