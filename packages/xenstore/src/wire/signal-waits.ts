type Reject = (reason: unknown) => void;

/**
 * What waits for signals: one listener for each, however many requests have it. More than ten listeners of one signal
 * would be a warning of Node's.
 */
export class SignalWaits {
  readonly #waiting = new Map<AbortSignal, { readonly rejects: Set<Reject>; readonly abort: () => void }>();

  /** Calls `reject` with the signal's reason when that aborts; the function that it gives ends the wait. */
  wait(signal: AbortSignal, reject: Reject): () => void {
    const { rejects } = this.#waiting.get(signal) ?? this.#listen(signal);
    rejects.add(reject);
    return () => {
      rejects.delete(reject);
      if (rejects.size === 0) this.#forget(signal);
    };
  }

  #listen(signal: AbortSignal) {
    const rejects = new Set<Reject>();
    const abort = () => {
      for (const reject of rejects) reject(signal.reason);
    };
    const waiting = { rejects, abort };
    this.#waiting.set(signal, waiting);
    signal.addEventListener('abort', abort, { once: true });
    return waiting;
  }

  #forget(signal: AbortSignal): void {
    const waiting = this.#waiting.get(signal);
    if (waiting === undefined || waiting.rejects.size > 0) return;
    this.#waiting.delete(signal);
    signal.removeEventListener('abort', waiting.abort);
  }
}
