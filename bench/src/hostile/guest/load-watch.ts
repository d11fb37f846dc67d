import type { RingLoad } from './ring-load.js';

const WATCH_MS = 50;

/** Looks for rings that do not go on, and wakes those that ask for no events. */
export class LoadWatch {
  readonly #timers: NodeJS.Timeout[];

  constructor(loads: readonly RingLoad[], seconds: number, polls: boolean, wrong: (message: string) => void) {
    const look = () => {
      for (const load of loads) {
        const stalled = load.stalled(seconds);
        if (stalled) wrong(`a ring does not go on: ${JSON.stringify(stalled)}`);
      }
    };
    const work = () => {
      for (const load of loads) load.work();
    };
    this.#timers = [setInterval(look, WATCH_MS)];
    if (polls) this.#timers.push(setInterval(work, 1));
  }

  stop(): void {
    for (const timer of this.#timers) clearInterval(timer);
  }
}
