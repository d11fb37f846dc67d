import type { TraceLine } from './lines.js';

/** Requests that are remembered: more than the rings of a disk have room for, unless lines were lost. */
const MOST_REQUESTS = 65_536;

/** Lets only the lines of requests pass that took so long, from their taking to their answer. */
export class SlowRequests {
  readonly #least: number;
  readonly #requests = new Map<string, TraceLine[]>();

  /** `least`: microseconds. */
  constructor(least: number) {
    this.#least = least;
  }

  /** The lines that can be shown now: all of a request, when it is answered and was slow. */
  push(line: TraceLine): readonly TraceLine[] {
    // When it was taken is not known, nor how long it took.
    if (line.request === undefined) return [];
    const key = `${line.queue}/${line.request}`;
    const lines = this.#requests.get(key) ?? [];
    lines.push(line);
    if (line.point !== 'pushed') {
      this.#requests.set(key, lines);
      const [oldest] = this.#requests.keys();
      if (this.#requests.size > MOST_REQUESTS) this.#requests.delete(oldest);
      return [];
    }
    this.#requests.delete(key);
    return (line.latency ?? 0) >= this.#least ? lines : [];
  }

  /** The lines of requests that are not answered, and are as old by now. `now`: microseconds since 1970. */
  unanswered(now: number, timeOf: (text: string) => number): readonly TraceLine[] {
    return [...this.#requests.values()].filter(([first]) => now - timeOf(first.time) >= this.#least).flat();
  }
}
