/** As much of a ring as is needed to let it wait. */
export interface ThrottledRing {
  /** Nothing is taken: its limits leave nothing. */
  throttled: boolean;
  readonly counters: { throttled(milliseconds: number): void };
}

interface Waiting<R> {
  readonly ring: R;
  readonly since: number;
  readonly until: number;
}

/**
 * Rings that have requests and may not take them yet. One timer for all of them; a thread that sleeps in place, where no
 * timer runs, asks for how long.
 */
export class ThrottledRings<R extends ThrottledRing> {
  readonly #onReleased: (ring: R) => void;
  #onTime: () => void = () => {};
  #waiting: Waiting<R>[] = [];
  #timer: NodeJS.Timeout | undefined;

  /** `onReleased`: the ring may be looked at again. */
  constructor(onReleased: (ring: R) => void) {
    this.#onReleased = onReleased;
  }

  /** What to do when the time of a ring is over: {@link release}, soon. */
  onTime(listener: () => void): void {
    this.#onTime = listener;
  }

  /** Lets the ring wait for so many milliseconds. */
  add(ring: R, milliseconds: number): void {
    const since = performance.now();
    ring.throttled = true;
    this.#waiting.push({ ring, since, until: since + milliseconds });
    this.#arm();
  }

  /** The ring is removed. */
  forget(ring: R): void {
    this.#waiting = this.#waiting.filter((waiting) => waiting.ring !== ring);
    this.#arm();
  }

  /** Milliseconds until {@link release} has something to do; Infinity for never. */
  get untilNext(): number {
    if (this.#waiting.length === 0) return Infinity;
    return Math.max(0, this.#next - performance.now());
  }

  /** Releases those whose time is over. */
  release(): void {
    if (this.#waiting.length === 0) return;
    const now = performance.now();
    const over = this.#waiting.filter(({ until }) => until <= now);
    if (over.length === 0) return;
    this.#waiting = this.#waiting.filter(({ until }) => until > now);
    for (const { ring, since } of over) {
      ring.throttled = false;
      ring.counters.throttled(now - since);
      this.#onReleased(ring);
    }
    this.#arm();
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#waiting = [];
  }

  readonly #expired = (): void => {
    this.#onTime();
    this.#arm();
  };

  get #next(): number {
    return this.#waiting.reduce((least, { until }) => Math.min(least, until), Infinity);
  }

  #arm(): void {
    clearTimeout(this.#timer);
    if (this.#waiting.length === 0) return;
    // Rounded up: a timer that is early finds nothing to do.
    this.#timer = setTimeout(this.#expired, Math.ceil(this.untilNext));
  }
}
