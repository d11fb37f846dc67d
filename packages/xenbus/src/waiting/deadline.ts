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
  let stopWaiting = () => {};
  const aborted = new Promise<void>((resolve) => {
    stopWaiting = resolve;
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
  const settled = work.then(
    () => {},
    () => {},
  );
  await Promise.race([settled, aborted]);
  stopWaiting();
  return withinDeadline(work, ms);
}
