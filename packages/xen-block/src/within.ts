/** Whether a promise resolves within so many milliseconds. Rejects as it does, if that is in time. */
export async function within(promise: Promise<unknown>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(resolve, ms, false);
  });
  try {
    return await Promise.race([promise.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Whether a promise resolves before the signal is aborted. Rejects as it does, if that is before. */
export async function beforeAbort(promise: Promise<unknown>, signal: AbortSignal): Promise<boolean> {
  if (signal.aborted) return false;
  let abort = () => {};
  const aborted = new Promise<boolean>((resolve) => {
    abort = () => resolve(false);
    signal.addEventListener('abort', abort);
  });
  try {
    return await Promise.race([promise.then(() => true), aborted]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
