import { XenSysError } from '@xenpv/xen-sys';

/** To which of what a fault concerns it happens: to all from now on, if nothing is given. */
export interface FaultTimes {
  /** Only from this one on, counted from 1. */
  readonly at?: number | undefined;
  /** To so many; 1 where `at` is given, else all. */
  readonly times?: number | undefined;
}

/**
 * A fault of a host that is switched on, until `end()`, the end of its `using` block, or the end of the host. It counts
 * what it saw and what it hit, which can be read after its end too.
 */
export class HostFault implements Disposable {
  /** What it might have happened to until now. */
  seen = 0;
  /** What it happened to. */
  hits = 0;
  readonly #from: number;
  readonly #until: number;
  #ends: (() => void)[] = [];
  #ended = false;

  /** Error: EINVAL for times that cannot be. */
  constructor({ at, times }: FaultTimes) {
    for (const [name, value] of Object.entries({ at, times })) {
      if (value === undefined || (value >= 1 && (Number.isInteger(value) || name === 'times'))) continue;
      throw new XenSysError('EINVAL', 'host.faults', `${name} is ${value}; it is counted from 1`);
    }
    this.#from = at ?? 1;
    this.#until = this.#from + (times ?? (at === undefined ? Number.POSITIVE_INFINITY : 1));
  }

  /** Whether it is over. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Counts one more, and says whether it is hit. */
  strikes(): boolean {
    if (this.#ended) return false;
    this.seen++;
    const hit = this.seen >= this.#from && this.seen < this.#until;
    if (hit) this.hits++;
    return hit;
  }

  /** What its end has to do, the last first. */
  onEnd(...ends: (() => void)[]): void {
    this.#ends.push(...ends);
  }

  /** Ends it. What it held back comes now. Harmless when repeated. */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const end of this.#ends.reverse()) end();
    this.#ends = [];
  }

  [Symbol.dispose](): void {
    this.end();
  }
}
