/** What {@link withinDeadline} gives when the time is over. */
export const LATE = Symbol('late');

/** What `work` resolves to, or {@link LATE} when it takes longer than `ms` milliseconds. It goes on all the same. */
export async function withinDeadline<T>(work: Promise<T>, ms: number): Promise<T | typeof LATE> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<typeof LATE>((resolve) => {
    timer = setTimeout(() => resolve(LATE), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** As {@link withinDeadline}, but the time only begins when `signal` is aborted. */
export async function withinDeadlineOnceAborted<T>(
  work: Promise<T>,
  signal: AbortSignal,
  ms: number,
): Promise<T | typeof LATE> {
  await endedOrAborted(work, signal);
  return withinDeadline(work, ms);
}

/** Resolves when `work` ends, in whatever way, or `signal` is aborted. */
export async function endedOrAborted(work: Promise<unknown>, signal: AbortSignal): Promise<void> {
  let stopWaiting = () => {};
  const aborted = new Promise<void>((resolve) => {
    stopWaiting = resolve;
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', stopWaiting, { once: true });
  });
  const ended = work.then(
    () => {},
    () => {},
  );
  await Promise.race([ended, aborted]);
  signal.removeEventListener('abort', stopWaiting);
}
