/**
 * What a promise resolves with, or the signal's reason as soon as it aborts: a system call of hung storage ends when it
 * likes, and nobody waits for it then. What it gives later is for `dispose`.
 * Nothing of it is left at the signal afterwards.
 */
export function abandonable<T>(promise: Promise<T>, signal: AbortSignal, dispose?: (late: T) => unknown): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => {
      promise.then(dispose, () => {});
      reject(signal.reason);
    };
    if (signal.aborted) {
      abort();
      return;
    }
    signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
