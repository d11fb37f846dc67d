/** How long after a question the same one is expected again: xentop asks each 3 s unless told otherwise. */
const WATCHED_MS = 30_000;
/** So old may an answer be while its question is expected. */
const REFRESH_MS = 1000;

/**
 * An answer that is at hand while somebody looks again and again. libxenstat waits 10 ms for it and then shows nothing, which
 * a daemon that serves disks on a busy machine cannot promise; what is up to a second old it can have at once.
 */
export class WatchedAnswer<T> {
  readonly #ask: () => Promise<T>;
  #latest: { readonly answer: T; readonly at: number } | undefined;
  #askedAt = 0;
  #timer: NodeJS.Timeout | undefined;
  #isEnded = false;

  constructor(ask: () => Promise<T>) {
    this.#ask = ask;
  }

  async get(): Promise<T> {
    this.#askedAt = performance.now();
    const latest = this.#latest;
    // A refresh that is under way, or late because the daemon is, may make it twice as old.
    if (latest && performance.now() - latest.at < 2 * REFRESH_MS) return latest.answer;
    return this.#renew();
  }

  [Symbol.dispose](): void {
    this.#isEnded = true;
    clearTimeout(this.#timer);
  }

  async #renew(): Promise<T> {
    const answer = await this.#ask();
    this.#latest = { answer, at: performance.now() };
    clearTimeout(this.#timer);
    if (!this.#isEnded) this.#timer = setTimeout(() => this.#renewWhileWatched(), REFRESH_MS);
    return answer;
  }

  #renewWhileWatched(): void {
    if (performance.now() - this.#askedAt < WATCHED_MS) void this.#renew();
    else this.#latest = undefined;
  }
}
