import type { DiskStop } from '../../disk-description.js';

/** Somebody works on the image of a disk, and its requests may fail because of that; until it is released. */
export interface KeptFailures {
  /** The work is over: requests that failed meanwhile are done again. Harmless when repeated. */
  release(): Promise<void>;
}

/** Whose work may be why a disk's storage fails requests. While there is any, what fails is kept and not answered. */
export class FailureKeepers {
  readonly #keepers = new Set<(stop: DiskStop) => void>();
  /** The first has come, or the last has gone; then `stopped` says whether the disk has stopped meanwhile. */
  readonly #changed: (stopped: boolean) => Promise<void>;
  #stopped = false;

  constructor(changed: (stopped: boolean) => Promise<void>) {
    this.#changed = changed;
  }

  /** Whether there are any. */
  get any(): boolean {
    return this.#keepers.size > 0;
  }

  /** `onFailure` hears of each stop from now on. */
  async add(onFailure: (stop: DiskStop) => void): Promise<KeptFailures> {
    const keeper = (stop: DiskStop) => onFailure(stop);
    this.#keepers.add(keeper);
    if (this.#keepers.size === 1) await this.#changed(false);
    return {
      release: async () => {
        if (!this.#keepers.delete(keeper) || this.any) return;
        const stopped = this.#stopped;
        this.#stopped = false;
        await this.#changed(stopped);
      },
    };
  }

  /** The disk has stopped. */
  stopped(stop: DiskStop): void {
    if (this.any) this.#stopped = true;
    for (const keeper of [...this.#keepers]) keeper(stop);
  }
}
