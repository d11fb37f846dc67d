import { BackRing, FrontRing } from '@xenpv/ring';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { journals } from '../../testing/journals-in-memory.js';
import { Killed, StorePoints } from '../../testing/store-points.js';
import { adoptRing } from './adopt-ring.js';
import { pushAnswers } from './push-answers.js';
import type { RingJournal } from './ring-journal.js';

vi.mock('./journal-file.js', () => import('../../testing/journals-in-memory.js'));

/**
 * Schedules of each kind. `JOURNAL_SCHEDULES=20000 npx vitest run --project @xenpv/xen-block crash-points` is the long
 * form.
 */
const LONG = Number(process.env.JOURNAL_SCHEDULES ?? 0);
const SEEDS = Math.max(2, Math.ceil(LONG / 1000));
const SCHEDULES = Math.max(1000, LONG);
const TIMEOUT = LONG > 0 ? 3_600_000 : 60_000;

const SLOT_WORDS = 6;
const RESPONSE_WORDS = 4;
/** How much a schedule does: a small ring comes round often. */
interface Size {
  /** Of the ring. */
  readonly slots: number;
  readonly passes: number;
  /** Requests before each pass, less than this. */
  readonly asked: number;
}
const USUAL: Size = { slots: 8, passes: 8, asked: 8 };
/** For all pairs of deaths. */
const SMALL: Size = { slots: 4, passes: 2, asked: 8 };
/** Entries that were never used are there until the end: what a death has left in one of them stays. */
const SPARE: Size = { slots: 8, passes: 12, asked: 3 };
/** What a workload for all pairs must show, beyond requests that are answered. */
const KINDS = [
  'an answer over a request in flight',
  'requests that are left for another pass',
  'an entry that comes round',
];
/** Where the indices of the ring begin: some of its passes are beyond their end, or beyond the greatest positive one. */
const BEGINNINGS = [0, 2 ** 31 - 9, 2 ** 32 - 9];

afterEach(() => journals.clear());

/** Numbers from 0 to 1 that are the same again for the same seed (mulberry32). */
function randomOf(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A frontend whose requests are their numbers, and who knows which of them were answered. */
class Frontend {
  readonly memory: Uint8Array<SharedArrayBuffer>;
  /** Of KINDS. */
  readonly shown = new Set<string>();
  readonly asked = new Set<number>();
  readonly answered = new Set<number>();
  readonly #ring: FrontRing;
  #next = 1;

  constructor(beginning: number, slots: number) {
    const buffer = new SharedArrayBuffer(64 + slots * SLOT_WORDS * 4);
    const words = new Int32Array(buffer);
    // req_prod, req_event, rsp_prod, rsp_event
    words.set([beginning, beginning + 1, beginning, beginning + 1]);
    this.memory = new Uint8Array(buffer);
    this.#ring = new FrontRing(this.memory, SLOT_WORDS * 4, beginning);
  }

  ask(count: number): void {
    for (; count > 0 && !this.#ring.full; count--) {
      this.#ring.putRequest(new Int32Array(SLOT_WORDS).fill(this.#next), 0, SLOT_WORDS);
      this.asked.add(this.#next++);
    }
    this.#ring.pushRequests();
  }

  collect(): void {
    const words = new Int32Array(RESPONSE_WORDS);
    const count = this.#ring.harvest();
    if (count < 0) throw new Error('more answers than requests');
    for (let i = 0; i < count; i++) {
      this.#ring.takeResponse(words, 0, RESPONSE_WORDS);
      const [number] = words;
      if (!this.asked.delete(number))
        throw new Error(`an answer ${this.answered.has(number) ? 'twice' : 'to nothing'}`);
      this.answered.add(number);
    }
  }
}

/** One life of a backend. */
class Backend {
  readonly #front: Frontend;
  readonly #back: BackRing;
  readonly #journal: RingJournal;
  readonly #inFlight: { number: number; entry: number }[] = [];
  #taken = 0;

  constructor(front: Frontend, adopt: boolean) {
    this.#front = front;
    this.#back = BackRing.attach(front.memory, SLOT_WORDS * 4);
    const ring = { refs: Uint32Array.of(7), eventChannel: 3 };
    const { journal, entries } = adoptRing(this.#back, ring, { path: 'journal', adopt });
    this.#journal = journal!;
    for (const entry of entries) {
      const words = new Int32Array(SLOT_WORDS);
      this.#journal.copySlot(entry, words, 0);
      this.#begin(words, entry);
    }
  }

  /** As a data plane's: takes what is there, ends some in any order, answers them, and says so. */
  pass(random: () => number): void {
    const count = this.#back.harvest();
    if (count < 0) throw new Error('more requests than slots');
    for (let i = 0; i < count; i++) {
      const words = new Int32Array(SLOT_WORDS);
      const index = this.#back.takeRequest(words, 0);
      this.#begin(words, this.#journal.take(words, 0, index));
    }
    const ends = Math.floor(random() * (this.#inFlight.length + 1));
    const { shown } = this.#front;
    if (this.#inFlight.length > ends) shown.add(KINDS[1]);
    if (this.#taken > this.#back.size) shown.add(KINDS[2]);
    for (let i = 0; i < ends; i++) {
      const which = Math.floor(random() * this.#inFlight.length);
      if (which > 0) shown.add(KINDS[0]);
      const [{ number, entry }] = this.#inFlight.splice(which, 1);
      this.#journal.answer(entry, this.#back.responsesProduced);
      this.#back.putResponse(Int32Array.of(number, 0, 0, 0), 0, RESPONSE_WORDS);
    }
    if (ends > 0) pushAnswers(this.#back, this.#journal);
    this.#back.finalCheck();
  }

  #begin(words: Int32Array, entry: number): void {
    const [number] = words;
    if (words.some((word) => word !== number)) throw new Error('a request that is not what was asked');
    if (this.#front.answered.has(number)) throw new Error('a request is carried out after its answer was seen');
    this.#taken++;
    this.#inFlight.push({ number, entry });
  }
}

/** What a schedule came to. */
interface Schedule {
  readonly stores: number;
  /** How many of the deaths that were asked for came. */
  readonly deaths: number;
  readonly shown: ReadonlySet<string>;
}

/** Runs one schedule. The n-th life dies before its `kills[n]`-th store. */
function schedule(seed: number, kills: readonly number[], beginning: number, size = USUAL): Schedule {
  journals.clear();
  const random = randomOf(seed);
  const points = new StorePoints();
  const front = new Frontend(beginning, size.slots);
  let lives = 0;
  let deaths = 0;
  let backend: Backend | undefined;
  const live = (act: () => void) => {
    try {
      points.run(act);
    } catch (error) {
      if (!(error instanceof Killed)) throw error;
      backend = undefined;
      deaths++;
      points.killAt(kills[lives]);
    }
  };
  const start = () => {
    while (!backend) {
      live(() => {
        backend = new Backend(front, lives++ > 0);
      });
    }
  };
  points.killAt(kills[0]);
  for (let pass = 0; pass < size.passes; pass++) {
    start();
    front.ask(Math.floor(random() * size.asked));
    live(() => backend?.pass(random));
    front.collect();
  }
  for (let i = 0; i < 50 && front.asked.size > 0; i++) {
    start();
    live(() => backend?.pass(() => 0.999));
    front.collect();
  }
  if (front.asked.size > 0) throw new Error('requests are never answered');
  return { stores: points.count, deaths, shown: front.shown };
}

/** Runs a schedule; what is wrong names it, so that it can be run again. */
function checked(seed: number, kills: readonly number[], beginning: number, size = USUAL): Schedule {
  try {
    return schedule(seed, kills, beginning, size);
  } catch (cause) {
    const { message } = cause as Error;
    throw new Error(`${message}: seed ${seed}, killed before stores ${kills}, from index ${beginning}`, { cause });
  }
}

/** The seed of the workload with the fewest stores that shows all kinds. */
function smallest(): number {
  let found = { seed: 0, stores: Number.POSITIVE_INFINITY };
  for (let seed = 1; seed <= 200; seed++) {
    const { stores, shown } = schedule(seed, [], 0, SMALL);
    if (shown.size === KINDS.length && stores < found.stores) found = { seed, stores };
  }
  return found.seed;
}

describe.each(BEGINNINGS)('a backend that dies before any store, at a ring from index %s on', (beginning) => {
  it('answers every request once in its second life, whichever store it was', { timeout: TIMEOUT }, () => {
    for (let seed = 1; seed <= SEEDS; seed++) {
      const { stores } = schedule(seed, [], beginning);
      expect(stores).toBeGreaterThan(100);
      for (let store = 1; store <= stores; store++) checked(seed, [store], beginning);
    }
  });

  it('and before any store of its second life, answers every request once: all pairs', { timeout: TIMEOUT }, () => {
    let pairs = 0;
    const seed = smallest();
    const { stores } = schedule(seed, [], beginning, SMALL);
    for (let first = 1; first <= stores; first++) {
      // A death that does not come any more is beyond the last store, and ends the row.
      let second = 1;
      while (checked(seed, [first, second], beginning, SMALL).deaths === 2) second++;
      pairs += second - 1;
    }
    expect(pairs).toBeGreaterThan((stores * stores) / 4);
  });

  it('and right after it was taken over, and once more, answers every request once', { timeout: TIMEOUT }, () => {
    const random = randomOf(5);
    for (let seed = 1; seed < SEEDS; seed++) {
      const { stores } = schedule(seed, [], beginning, SPARE);
      for (let first = 1; first <= stores; first++) {
        for (let second = 1; second <= 16; second++) {
          checked(seed, [first, second, 1 + Math.floor(random() * 60)], beginning, SPARE);
        }
      }
    }
  });

  it.each([2, 3, 4])('and %s times, answers every request once', { timeout: TIMEOUT }, (times) => {
    const random = randomOf(times);
    const some = (most: number) => 1 + Math.floor(random() * most);
    for (let i = 0; i < SCHEDULES; i++) {
      const kills = Array.from({ length: times }, () => some(120));
      checked(some(1e6), kills, beginning);
    }
  });

  it('and at once again while it takes up what was left, answers every request once', { timeout: TIMEOUT }, () => {
    for (let seed = 1; seed <= SEEDS; seed++) {
      for (let first = 60; first < 240; first += 20) {
        for (let second = 1; second < 20; second++) checked(seed, [first, second, second], beginning);
      }
    }
  });
});
