type Told = (reason: unknown) => void;

/** All that wait for one signal, behind one listener. */
class Waiters {
  readonly #signal: AbortSignal;
  readonly #told = new Set<{ readonly told: Told }>();
  readonly #abort = () => {
    for (const { told } of this.#told) told(this.#signal.reason);
  };

  constructor(signal: AbortSignal) {
    this.#signal = signal;
  }

  add(told: Told): () => void {
    const one = { told };
    if (this.#told.size === 0) this.#signal.addEventListener('abort', this.#abort);
    this.#told.add(one);
    return () => {
      if (this.#told.delete(one) && this.#told.size === 0) this.#signal.removeEventListener('abort', this.#abort);
    };
  }
}

const waiters = new WeakMap<AbortSignal, Waiters>();

/**
 * Tells the signal's reason when it aborts, if it has not yet; the function that it gives ends that. A signal has one
 * listener of ours, however many wait for it: of more than ten Node warns.
 */
export function onAbort(signal: AbortSignal, told: Told): () => void {
  let all = waiters.get(signal);
  if (all === undefined) waiters.set(signal, (all = new Waiters(signal)));
  return all.add(told);
}
