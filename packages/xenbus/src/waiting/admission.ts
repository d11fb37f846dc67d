/** Lets a few begin at a time, in the order in which they came. One that takes long does not keep the others waiting. */
export class Admission implements Disposable {
  readonly #atATime: number;
  readonly #patienceMs: number;
  #inside = 0;
  #isOpen = false;
  readonly #waiting: (() => void)[] = [];

  /** `patienceMs`: after that time one that has begun counts no more. */
  constructor(atATime: number, patienceMs: number) {
    this.#atATime = atATime;
    this.#patienceMs = patienceMs;
  }

  /** Resolves when one may begin, with what is to be called when it has done; harmless when repeated. */
  async enter(): Promise<() => void> {
    if (this.#isOpen) return () => {};
    if (this.#inside === this.#atATime) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    // Who leaves hands the place on, so that nobody comes between.
    else this.#inside++;
    let isInside = true;
    const leave = () => {
      clearTimeout(timer);
      if (isInside) this.#leave();
      isInside = false;
    };
    const timer = setTimeout(leave, this.#patienceMs).unref();
    return leave;
  }

  #leave(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#inside--;
    else next();
  }

  /** All may begin. */
  [Symbol.dispose](): void {
    this.#isOpen = true;
    for (const begin of this.#waiting.splice(0)) begin();
  }
}
