import type { HostFault } from './host-fault.js';

/** How long something is held back. */
export interface Lateness {
  /** Milliseconds; until the fault ends, if not given. */
  readonly delayMs?: number | undefined;
}

/** What a fault holds back, in its order. Timers of it keep nothing alive. */
export class Late {
  readonly #delayMs: number | undefined;
  readonly #waiting = new Set<() => void>();
  readonly #timers = new Set<NodeJS.Timeout>();

  constructor({ delayMs }: Lateness, fault: HostFault) {
    this.#delayMs = delayMs;
    fault.onEnd(() => this.#releaseAll());
  }

  /** Does `what` later. */
  hold(what: () => void): void {
    this.#waiting.add(what);
    if (this.#delayMs === undefined) return;
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      if (this.#waiting.delete(what)) what();
    }, this.#delayMs);
    timer.unref();
    this.#timers.add(timer);
  }

  #releaseAll(): void {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const what of waiting) what();
  }
}
