import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { type Abi, BlkifOp, SEGMENT_WORDS } from '@xenpv/blkif';
import type { Random } from '../../program/random.js';
import type { Sent } from '../oracle/sent.js';
import { oddRef } from './mutate.js';
import type { GuestPages } from './pages.js';

/** Words of what the guest's thread and the exchanging one share: the state, the place in the guest's memory, two values. */
export const RaceWord = { state: 0, place: 1, one: 2, other: 3, count: 4 } as const;
export const RaceState = { rests: 0, runs: 1, ends: 2 } as const;
const PATIENCE_MS = 10_000;
const POINTS = ['pulled', 'queued', 'completed'].map((point) => `xen-block:request:${point}`);

interface Parts {
  readonly random: Random;
  readonly pages: GuestPages;
  readonly abi: Abi;
}

/**
 * A word of a request or of its list of segments that is exchanged for another one from its push to its answer. One request
 * at a time.
 */
export abstract class Race {
  /** See {@link RaceWord}. */
  protected readonly control: Int32Array;
  #target: Int32Array | undefined;
  #at = 0;
  #one = 0;
  #other = 0;
  #inSlot = false;
  #taken = false;

  constructor(control: Int32Array) {
    this.control = control;
  }

  get free(): boolean {
    return !this.#taken;
  }

  /** Chooses a word. False: the request has none that will do. */
  prepare(sent: Sent, parts: Parts): boolean {
    const { random, abi, pages } = parts;
    const operation = sent.words[0] & 0xff;
    if (sent.pageCount === 0 || operation > BlkifOp.indirect) return false;
    const segment = random.below(sent.pageCount);
    const inList = sent.list >= 0;
    const at = (inList ? 0 : abi.segmentsWord) + segment * SEGMENT_WORDS;
    const what = random.below(inList ? 3 : 4);
    this.#inSlot = !inList || what === 2;
    this.#target = this.#inSlot ? sent.words : pages.words[sent.list];
    if (what === 0) this.#choose(at, oddRef(sent, parts));
    else if (what === 1) this.#choose(at + 1, random.below(9) | (random.below(9) << 8));
    else if (what === 2) this.#choose(abi.sectorWord, sent.words[abi.sectorWord] + random.from(-64, 64));
    else this.#choose(0, (sent.words[0] & ~0xff00) | (random.from(0, Math.min(12, sent.pageCount + 1)) << 8));
    this.#taken = this.#one !== this.#other;
    return this.#taken;
  }

  #choose(at: number, other: number): void {
    this.#at = at;
    this.#one = this.#target?.[at] ?? 0;
    this.#other = other | 0;
  }

  /** Puts the other one of the two values there, for whoever looks for what that means. */
  exchange(): void {
    if (this.#target) this.#target[this.#at] = this.#target[this.#at] === this.#one ? this.#other : this.#one;
  }

  forget(): void {
    this.#taken = false;
  }

  /** The request is in the ring, whose slot begins at this place of the guest's memory, in words. */
  start(slot: number): void {
    const { control } = this;
    const list = this.#target === undefined ? 0 : this.#target.byteOffset / 4;
    control[RaceWord.place] = (this.#inSlot ? slot : list) + this.#at;
    control[RaceWord.one] = this.#one;
    control[RaceWord.other] = this.#other;
    Atomics.store(control, RaceWord.state, RaceState.runs);
    this.begin();
  }

  /** Nobody exchanges anything any more when it returns. False: the other thread is gone. */
  stop(): boolean {
    this.#taken = false;
    return this.end();
  }

  protected abstract begin(): void;
  protected abstract end(): boolean;
}

/** The other thread: threads/hostile-racer.ts. */
export class ThreadRace extends Race {
  protected override begin(): void {
    Atomics.notify(this.control, RaceWord.state);
  }

  protected override end(): boolean {
    const { control } = this;
    Atomics.compareExchange(control, RaceWord.state, RaceState.runs, RaceState.ends);
    return (
      Atomics.load(control, RaceWord.state) === RaceState.rests ||
      Atomics.wait(control, RaceWord.state, RaceState.ends, PATIENCE_MS) !== 'timed-out'
    );
  }
}

/** On the backend's own thread, at the points of a request's way that it publishes: the same each time. */
export class TracedRace extends Race {
  readonly #memory: Int32Array;

  constructor(memory: ArrayBufferLike) {
    super(new Int32Array(RaceWord.count));
    this.#memory = new Int32Array(memory);
  }

  protected override begin(): void {}

  protected override end(): boolean {
    this.control[RaceWord.state] = RaceState.rests;
    return true;
  }

  listen(): void {
    for (const point of POINTS) subscribe(point, this.#onPoint);
  }

  stopListening(): void {
    for (const point of POINTS) unsubscribe(point, this.#onPoint);
  }

  readonly #onPoint = (): void => {
    exchangeIn(this.#memory, this.control);
  };
}

/** Exchanges the word, unless it is neither of the two: an answer has taken its place. */
export function exchangeIn(memory: Int32Array, control: Int32Array): void {
  if (Atomics.load(control, RaceWord.state) !== RaceState.runs) return;
  const place = control[RaceWord.place];
  const one = control[RaceWord.one];
  const other = control[RaceWord.other];
  if (Atomics.compareExchange(memory, place, one, other) !== one) Atomics.compareExchange(memory, place, other, one);
}
