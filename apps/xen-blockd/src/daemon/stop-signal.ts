import { leaveStopSignals, STOP_SIGNALS } from '../early-stop.js';

/**
 * An AbortSignal that SIGINT, SIGTERM and SIGQUIT abort, with the signal's name as the reason. A second signal ends the
 * process at once, unless somebody waits for it, and so does a third, and half a minute of not ending.
 */
export class StopSignal implements Disposable {
  readonly #controller = new AbortController();
  #onSecond: ((name: NodeJS.Signals) => void) | undefined;
  #timer: NodeJS.Timeout | undefined;
  readonly #names: readonly NodeJS.Signals[];
  readonly #stop = (name: NodeJS.Signals) => {
    if (this.#controller.signal.aborted) return this.#stopAtOnce(name);
    this.#timer = setTimeout(() => process.exit(1), STOP_TIMEOUT_MS).unref();
    this.#controller.abort(name);
  };

  /** `further`: signals that stop too, such as SIGHUP of a program that lives with its terminal. */
  constructor(...further: readonly NodeJS.Signals[]) {
    this.#names = [...STOP_SIGNALS, ...further];
    leaveStopSignals();
    for (const name of this.#names) process.on(name, this.#stop);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** The signal that came, if one did. */
  get received(): NodeJS.Signals | undefined {
    return this.signal.aborted ? this.signal.reason : undefined;
  }

  /** Resolves with the signal's name when one comes. */
  wait(): Promise<NodeJS.Signals> {
    if (this.received) return Promise.resolve(this.received);
    return new Promise((resolve) => {
      this.signal.addEventListener('abort', () => resolve(this.signal.reason), { once: true });
    });
  }

  /** Resolves with the name of a second signal: the process is to end without waiting for anything. */
  second(): Promise<NodeJS.Signals> {
    return new Promise((resolve) => {
      this.#onSecond = resolve;
    });
  }

  /** What `work` resolves with; rejects with the signal's name as soon as one comes, and `work` is on its own. */
  orStopped<T>(work: Promise<T>): Promise<T> {
    const stopped = this.wait().then((name): never => {
      throw name;
    });
    stopped.catch(() => {});
    return Promise.race([work, stopped]);
  }

  #stopAtOnce(name: NodeJS.Signals): void {
    if (this.#onSecond === undefined) process.exit(1);
    this.#onSecond(name);
    this.#onSecond = undefined;
  }

  /** The process has ended all that it had to, and its exit is up to the program. */
  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    for (const name of this.#names) process.off(name, this.#stop);
  }
}

/** systemd's unit waits as long. */
const STOP_TIMEOUT_MS = 30_000;
