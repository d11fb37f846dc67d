const NONE = Buffer.alloc(0);

/** Yields how many bytes it wants next, and is given them. A negative number -n: from 1 to n bytes, whatever is here. */
export type Speaker<Result> = Generator<number, Result, Buffer>;

/**
 * Gives a {@link Speaker} its bytes, whatever pieces they arrive in. Bytes that it has to wait for are copied; all else
 * it gets as views of the pieces, which are the caller's again when `feed` has returned.
 */
export class Conversation<Result> {
  readonly #speaker: Speaker<Result>;
  readonly #collected: Buffer[] = [];
  #collectedBytes = 0;
  #wanted = 0;
  #result: { readonly value: Result } | undefined;

  /** Runs the speaker up to its first wish. */
  constructor(speaker: Speaker<Result>) {
    this.#speaker = speaker;
    this.#give(NONE);
  }

  /** What the speaker returned, or undefined. */
  get result(): Result | undefined {
    return this.#result?.value;
  }

  /** Hands over what has arrived; returns how much of it was used: all, unless the speaker is done. Throws what it throws. */
  feed(piece: Buffer): number {
    let at = 0;
    while (at < piece.length && !this.#result) at += this.#take(piece, at);
    return at;
  }

  #take(piece: Buffer, at: number): number {
    const missing = Math.abs(this.#wanted) - this.#collectedBytes;
    const part = piece.subarray(at, at + missing);
    if (this.#wanted < 0 || part.length === missing) this.#give(this.#joined(part));
    else this.#collect(part);
    return part.length;
  }

  #collect(part: Buffer): void {
    this.#collected.push(Buffer.from(part));
    this.#collectedBytes += part.length;
  }

  #joined(part: Buffer): Buffer {
    if (this.#collectedBytes === 0) return part;
    const whole = Buffer.concat([...this.#collected, part]);
    this.#collected.length = 0;
    this.#collectedBytes = 0;
    return whole;
  }

  #give(bytes: Buffer): void {
    const next = this.#speaker.next(bytes);
    if (next.done) this.#result = { value: next.value };
    else this.#wanted = next.value;
  }
}
