/**
 * The connections to one image's server, one for each thread, of which none may send anything to a server that was
 * started again before the unflushed writes were sent to it. In the order of the log only one of them can do that, while
 * the others are silent: a write of theirs could be overtaken by an older one.
 *
 * A connection is either sending or not, as it says in the shared memory. What must hold:
 * - Whoever loses the server says so before it stops to be one that sends; everybody hears of it and drops its own
 *   connection, which may be to the server that is gone.
 * - Nobody begins to send while a loss is not mended; who has begun at the same instant steps back.
 * - One at a time mends, and only when nobody sends: so every reply of the server that is gone was noted, or dropped.
 */
import { BroadcastChannel } from 'node:worker_threads';
import { LogWord, MEMBERS } from './layout.js';
import type { UnflushedLog } from './log.js';

const State = { free: 0, silent: 1, sending: 2 } as const;

export class Member {
  readonly #words: Int32Array;
  readonly #number: number;
  readonly #channel: BroadcastChannel;

  /** `onNews`: another connection of the image lost the server, fell silent or has mended. RangeError: there are too many. */
  constructor({ words, shared }: UnflushedLog, onNews: () => void) {
    this.#words = words;
    this.#number = takeNumber(words);
    this.#channel = new BroadcastChannel(shared.name);
    this.#channel.onmessage = onNews;
    this.#channel.unref();
  }

  /** Whether nothing has to be sent again before anything else. */
  get isMended(): boolean {
    return Atomics.load(this.#words, LogWord.losses) === Atomics.load(this.#words, LogWord.mended);
  }

  /** From now on it sends. False when a loss must be mended first. */
  beginSending(): boolean {
    if (!this.isMended) return false;
    this.#say(State.sending);
    if (this.isMended) return true;
    this.#fallSilent();
    return false;
  }

  /** It has lost the server while it was sending. */
  lost(): void {
    const mended = Atomics.load(this.#words, LogWord.mended);
    // A loss that is not mended stands for this one too: nobody has sent anything since.
    Atomics.compareExchange(this.#words, LogWord.losses, mended, (mended + 1) | 0);
    this.#changedNow();
    this.#fallSilent();
  }

  /** Whether it may mend the loss, which it must end with `mended` or `gaveUp`. If not, there will be news. */
  beginMending(): boolean {
    if (Atomics.compareExchange(this.#words, LogWord.mender, 0, this.#number + 1) !== 0) return false;
    for (let i = 0; i < MEMBERS; i++) {
      if (Atomics.load(this.#words, LogWord.members + i) !== State.sending) continue;
      Atomics.store(this.#words, LogWord.mender, 0);
      return false;
    }
    return true;
  }

  mended(resent: number): void {
    Atomics.store(this.#words, LogWord.resent, resent);
    this.#changedNow();
    Atomics.store(this.#words, LogWord.mended, Atomics.load(this.#words, LogWord.losses));
    this.gaveUp();
  }

  gaveUp(): void {
    Atomics.store(this.#words, LogWord.mender, 0);
    this.#channel.postMessage('news');
  }

  /** Writes that were sent again when a loss was mended the last time. */
  get resent(): number {
    return Atomics.load(this.#words, LogWord.resent);
  }

  /** It sends no more. */
  leave(): void {
    this.#say(State.free);
    this.#channel.postMessage('news');
    this.#channel.close();
  }

  /** The server has written to the image until now. */
  #changedNow(): void {
    Atomics.store(this.#words, LogWord.at, Date.now() / 1000);
  }

  #fallSilent(): void {
    this.#say(State.silent);
    this.#channel.postMessage('news');
  }

  #say(state: number): void {
    Atomics.store(this.#words, LogWord.members + this.#number, state);
  }
}

function takeNumber(words: Int32Array): number {
  for (let i = 0; i < MEMBERS; i++) {
    if (Atomics.compareExchange(words, LogWord.members + i, State.free, State.silent) === State.free) return i;
  }
  throw new RangeError(`more than ${MEMBERS} threads use one image`);
}
