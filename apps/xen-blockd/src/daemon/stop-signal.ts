/**
 * An AbortSignal that SIGINT, SIGTERM and SIGHUP abort, with the signal's name as the reason. A second signal ends the
 * process at once, and so does half a minute of not ending.
 */
export class StopSignal implements Disposable {
  readonly #controller = new AbortController();
  readonly #stop = (name: NodeJS.Signals) => {
    if (this.#controller.signal.aborted) process.exit(1);
    setTimeout(() => process.exit(1), STOP_TIMEOUT_MS).unref();
    this.#controller.abort(name);
  };

  constructor() {
    for (const name of STOP_SIGNALS) process.on(name, this.#stop);
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

  [Symbol.dispose](): void {
    for (const name of STOP_SIGNALS) process.off(name, this.#stop);
  }
}

const STOP_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** systemd's unit waits as long. */
const STOP_TIMEOUT_MS = 30_000;
