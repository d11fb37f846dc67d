const NEVER = Number.POSITIVE_INFINITY;

/** Since when each request of a connection waits, by cookie, in milliseconds of performance.now(). */
export class RequestTimes {
  /** When it came. */
  readonly #asked: number[] = [];
  /** When it was sent last; NEVER while it waits for something else than an answer. */
  readonly #sent: number[] = [];

  asked(cookie: number): void {
    this.#asked[cookie] = performance.now();
    this.#sent[cookie] = NEVER;
  }

  sent(cookie: number, now: number): void {
    this.#sent[cookie] = now;
  }

  /** It waits for no answer any more. */
  ended(cookie: number): void {
    this.#sent[cookie] = NEVER;
  }

  /** When the oldest one was sent that waits for an answer; Infinity when none does. */
  get oldestSent(): number {
    let oldest = NEVER;
    for (const sent of this.#sent) if (sent < oldest) oldest = sent;
    return oldest;
  }

  age(cookie: number, now: number): number {
    return now - this.#asked[cookie];
  }
}
