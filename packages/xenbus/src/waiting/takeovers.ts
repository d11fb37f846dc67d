import { Admission } from './admission.js';

/** How long those that were served before go first: storage that hangs must not keep others from being served. */
const LIMIT_MS = 5000;
/**
 * How many are looked at and opened at a time: so many that there is always something to do while xenstored answers, and
 * so few that the first guests go on early.
 */
const AT_A_TIME = 32;
/** How long one of them keeps others from beginning, in milliseconds. */
const BEGINNING_MS = 100;

/** A device's place among those that were found while a bus starts. */
export interface Turn {
  /** Resolves when the device may be looked at, after those that were found before it. Not called again meanwhile. */
  begin(): Promise<void>;
  /** It was served before and is taken over, or held; or it was not served before. */
  over(): void;
  /** Whether others that were served before may still have to be taken over. */
  readonly mustWait: boolean;
  /** Resolves when they are. */
  wait(): Promise<void>;
}

/**
 * Devices that were Connected when a bus starts are opened before those that were not. An image has one writer: one whose
 * guest works with it must not find that another, which was refused it so far, has taken it between two processes. They
 * are opened a few at a time, so that the first guests need not wait for the last one.
 */
export class Takeovers implements Disposable {
  readonly #over: Promise<void>;
  readonly #limitMs: number;
  #end!: () => void;
  #isOver = false;
  /** Devices that may have to be taken over, and the look for them. */
  #left = 1;
  #timer: NodeJS.Timeout | undefined;
  readonly #admission = new Admission(AT_A_TIME, BEGINNING_MS);

  constructor(limitMs = LIMIT_MS) {
    this.#over = new Promise((resolve) => {
      this.#end = resolve;
    });
    this.#limitMs = limitMs;
  }

  /** A device that was found. */
  turn(): Turn {
    let isLeft = !this.#isOver;
    if (isLeft) this.#left++;
    let leave: (() => void) | undefined;
    const takeovers = this;
    return {
      async begin() {
        leave ??= await takeovers.#admission.enter();
      },
      over() {
        leave?.();
        if (isLeft) takeovers.#less();
        isLeft = false;
      },
      get mustWait() {
        return !takeovers.#isOver;
      },
      wait: () => takeovers.#over,
    };
  }

  /** All that there were when the bus started have a turn. */
  allAreFound(): void {
    this.#timer = setTimeout(() => this[Symbol.dispose](), this.#limitMs).unref();
    this.#less();
  }

  #less(): void {
    this.#left--;
    if (this.#left === 0) this[Symbol.dispose]();
  }

  /** Nobody waits any more. */
  [Symbol.dispose](): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#admission[Symbol.dispose]();
    this.#end();
  }
}
