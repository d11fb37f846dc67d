import { onAbort } from '../wire/on-abort.js';

/** Settles as `work` does, or rejects with the reason of `signal` as soon as that is aborted; `work` goes on all the same. */
export function abortable<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  return new Promise((resolve, reject) => {
    if (signal.aborted) reject(signal.reason);
    const forget = onAbort(signal, reject);
    work.then(resolve, reject).finally(forget);
  });
}
