import { once } from 'node:events';

/** What must not be, the first few of them; and what is waited for, so that it is known when that takes too long. */
export class Watch {
  readonly problems: string[] = [];
  /** Aborted by the first problem. */
  readonly failed: AbortSignal;
  readonly #failed = new AbortController();
  readonly #whenFailed: Promise<unknown>;
  readonly #waits = new Map<symbol, { readonly what: string; readonly since: number }>();
  readonly #log: (line: string) => void;

  constructor(log: (line: string) => void) {
    this.#log = log;
    this.failed = this.#failed.signal;
    this.#whenFailed = once(this.failed, 'abort');
  }

  note(line: string): void {
    this.#log(line);
  }

  fail(problem: string): void {
    this.#log(`PROBLEM ${problem}`);
    if (this.problems.length < 20) this.problems.push(problem);
    this.#failed.abort();
  }

  /** Waits for what must come about in the end; a rejection is a problem. Resolves when it has, or anything failed. */
  async wait(what: string, promise: Promise<unknown>): Promise<void> {
    const wait = Symbol(what);
    this.#waits.set(wait, { what, since: performance.now() });
    const reached = promise.catch((error: Error) => this.fail(`${what}: ${error.message}`));
    await Promise.race([reached, this.#whenFailed]);
    this.#waits.delete(wait);
  }

  /** The oldest wait; its age in milliseconds. */
  oldest(): { readonly what: string; readonly ms: number } {
    let oldest = { what: 'nothing', ms: 0 };
    for (const { what, since } of this.#waits.values()) {
      const ms = performance.now() - since;
      if (ms > oldest.ms) oldest = { what, ms };
    }
    return oldest;
  }
}
