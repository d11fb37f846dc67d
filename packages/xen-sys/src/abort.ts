type Told = (reason: unknown) => void;

/** All that wait for one signal, behind one listener. */
class Waiters {
  readonly #signal: AbortSignal;
  readonly #told = new Set<{ readonly told: Told }>();
  readonly #abort = () => {
    for (const { told } of this.#told) told(this.#signal.reason);
    this.#told.clear();
    this.#signal.removeEventListener('abort', this.#abort);
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
export function onAbort(signal: AbortSignal, told: (reason: unknown) => void): () => void {
  let all = waiters.get(signal);
  if (all === undefined) waiters.set(signal, (all = new Waiters(signal)));
  return all.add(told);
}

/**
 * Settles as `work` does, or rejects with the reason of the signal as soon as that is aborted. Work goes on all the same, and
 * its end is nobody's to hear of then, an error neither.
 */
export function untilAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  if (signal.aborted) {
    work.catch(() => {});
    return Promise.reject(signal.reason);
  }
  return new Promise((resolve, reject) => {
    const forget = onAbort(signal, reject);
    work.then(resolve, reject).finally(forget);
  });
}

/** What `work` gives, by {@link untilAborted}; with a signal that is aborted already nothing is begun. */
export function unlessAborted<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
  if (signal?.aborted) return Promise.reject(signal.reason);
  return untilAborted(work(), signal);
}
