/** How often it is looked whether this process has had its turn. */
const TICK_MS = 20;

/**
 * A time limit of which counts what this process could use. Timers come before sockets: after a process has stood still, a
 * single timer would end before anything was read that has come meanwhile.
 */
export class Patience {
  /** Resolves when the time is over, and never after `stop`. */
  readonly ended: Promise<void>;
  #ticks: NodeJS.Timeout | undefined;

  constructor(ms: number) {
    let left = Math.ceil(ms / TICK_MS);
    this.ended = new Promise((resolve) => {
      this.#ticks = setInterval(() => {
        if (--left > 0) return;
        this.stop();
        resolve();
      }, TICK_MS);
    });
  }

  stop(): void {
    clearInterval(this.#ticks);
  }
}
