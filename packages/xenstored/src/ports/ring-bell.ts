import { setImmediate as nextTurn } from 'node:timers/promises';
import { type RingPage, ringWords } from './ring-page.js';

/** Offsets of the bells in the page, in bytes: what rings them wakes that end. */
const BELL = { server: 4088, guest: 4092 } as const;

/** One end of a page's two bells: runs `wake` whenever the other end rings. */
export class RingBell {
  readonly #words: Int32Array;
  readonly #own: number;
  readonly #other: number;
  readonly #wake: () => void;
  #stopped = false;

  constructor(page: RingPage, end: 'server' | 'guest', wake: () => void) {
    this.#words = ringWords(page);
    this.#own = BELL[end] >> 2;
    this.#other = BELL[end === 'server' ? 'guest' : 'server'] >> 2;
    this.#wake = wake;
    void this.#listen();
  }

  async #listen(): Promise<void> {
    while (!this.#stopped) {
      const seen = Atomics.load(this.#words, this.#own);
      this.#wake();
      const wait = Atomics.waitAsync(this.#words, this.#own, seen);
      // An end that rings all the time must not keep this thread from everything else.
      await (wait.async ? wait.value : nextTurn());
    }
  }

  ring(): void {
    Atomics.add(this.#words, this.#other, 1);
    Atomics.notify(this.#words, this.#other);
  }

  stop(): void {
    this.#stopped = true;
    Atomics.notify(this.#words, this.#own);
  }
}
