/** Timers take no more: beyond it they fire at once. */
const MOST_MS = 2 ** 31 - 1;

/**
 * Aborts with `signal`, or after `milliseconds`. Node 20 may collect an AbortSignal.timeout that only AbortSignal.any
 * refers to, and then it never fires.
 */
export class Deadline implements Disposable {
  readonly #controller = new AbortController();
  readonly #signal: AbortSignal;
  readonly #timer: NodeJS.Timeout;
  readonly #abort = () => this.#controller.abort(this.#signal.reason);

  constructor(signal: AbortSignal, milliseconds: number) {
    this.#signal = signal;
    this.#timer = setTimeout(
      () => this.#controller.abort(new Error(`nothing within ${milliseconds} ms`)),
      Math.min(milliseconds, MOST_MS),
    );
    signal.addEventListener('abort', this.#abort);
    if (signal.aborted) this.#abort();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#signal.removeEventListener('abort', this.#abort);
  }
}
