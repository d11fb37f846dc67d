import { BackRing, FrontRing } from '@xenpv/ring';
import fc from 'fast-check';
import { afterEach, expect, it, vi } from 'vitest';
import { journals } from '../../testing/journals-in-memory.js';
import { adoptRing } from './adopt-ring.js';
import { pushAnswers } from './push-answers.js';

vi.mock('./journal-file.js', () => import('../../testing/journals-in-memory.js'));

afterEach(() => journals.clear());

const SLOT_WORDS = 28;
/** Requests of the second kernel have numbers from here on. */
const SECOND = 1_000_000;

/** A kernel's end of the ring page, which it makes anew. */
class Kernel {
  readonly #ring: FrontRing;
  #next: number;

  constructor(memory: Uint8Array<SharedArrayBuffer>, first: number) {
    this.#ring = new FrontRing(memory, SLOT_WORDS * 4);
    this.#next = first;
  }

  ask(count: number): void {
    for (; count > 0 && !this.#ring.full; count--) {
      this.#ring.putRequest(new Int32Array(SLOT_WORDS).fill(this.#next++), 0, SLOT_WORDS);
    }
    this.#ring.pushRequests();
  }

  collect(): number[] {
    const words = new Int32Array(4);
    const answers: number[] = [];
    for (let count = this.#ring.harvest(); count > 0; count--) {
      this.#ring.takeResponse(words, 0, 4);
      answers.push(words[0]);
    }
    return answers;
  }
}

/** A backend's life: what it carries out, by number. */
class Life {
  readonly inFlight: { number: number; entry: number }[] = [];
  readonly #back: BackRing;
  readonly #journal;

  constructor(memory: Uint8Array<SharedArrayBuffer>, adopt: boolean) {
    this.#back = BackRing.attach(memory, SLOT_WORDS * 4);
    const { journal, entries } = adoptRing(
      this.#back,
      { refs: Uint32Array.of(7), eventChannel: 3 },
      { path: 'journal', adopt },
    );
    this.#journal = journal!;
    for (const entry of entries) {
      const words = new Int32Array(SLOT_WORDS);
      this.#journal.copySlot(entry, words, 0);
      this.inFlight.push({ number: words[0], entry });
    }
  }

  take(): void {
    for (let count = this.#back.harvest(); count > 0; count--) {
      const words = new Int32Array(SLOT_WORDS);
      const index = this.#back.takeRequest(words, 0);
      this.inFlight.push({ number: words[0], entry: this.#journal.take(words, 0, index) });
    }
  }

  /** Answers up to so many requests, beginning with the latest. */
  answer(count: number): void {
    for (; count > 0 && this.inFlight.length > 0; count--) {
      const { number, entry } = this.inFlight.pop()!;
      this.#journal.answer(entry, this.#back.responsesProduced);
      this.#back.putResponse(Int32Array.of(number, 0, 0, 0), 0, 4);
    }
  }

  push(): void {
    pushAnswers(this.#back, this.#journal);
  }
}

type Round = { asked: number; answered: number };
/** An entry answered long ago at an index that the second kernel's ring has not reached, and the killed life's end. */
const OLD_ENTRIES: [Round[], boolean, number][] = [true, false].map((pushed) => [
  [
    { asked: 16, answered: 4 },
    { asked: 2, answered: 5 },
    { asked: 19, answered: 23 },
    { asked: 27, answered: 32 },
    { asked: 14, answered: 4 },
    { asked: 17, answered: 26 },
  ],
  pushed,
  1,
]);

const rounds = fc.array(fc.record({ asked: fc.nat(32), answered: fc.nat(32) }), { minLength: 1, maxLength: 6 });

it('a kernel that is booted anew on the same ring page gets answers to its own requests, and only they are carried out', () => {
  fc.assert(
    fc.property(rounds, fc.boolean(), fc.nat(32), (before, pushed, asked) => {
      journals.clear();
      const memory = new Uint8Array(new SharedArrayBuffer(4096));
      const first = new Kernel(memory, 1);
      const killed = new Life(memory, false);
      for (const [i, round] of before.entries()) {
        first.ask(round.asked);
        killed.take();
        killed.answer(round.answered);
        if (pushed || i < before.length - 1) killed.push();
        first.collect();
      }
      const second = new Kernel(memory, SECOND);
      second.ask(asked);
      const life = new Life(memory, true);
      life.take();
      const expected = Array.from({ length: asked }, (_, i) => SECOND + i);
      expect(life.inFlight.map(({ number }) => number)).toEqual(expected);
      life.answer(32);
      life.push();
      expect(second.collect().sort((a, b) => a - b)).toEqual(expected);
    }),
    { numRuns: Number(process.env.JOURNAL_SCHEDULES ?? 1000), examples: OLD_ENTRIES },
  );
});

it.each([0, 1, 2, 3])('a kernel that was booted anew before anything was answered, with %s requests, too', (asked) => {
  const memory = new Uint8Array(new SharedArrayBuffer(4096));
  new Kernel(memory, 1).ask(2);
  new Life(memory, false).take();
  const second = new Kernel(memory, SECOND);
  second.ask(asked);
  const life = new Life(memory, true);
  expect(life.inFlight).toEqual([]);
  life.take();
  expect(life.inFlight.map(({ number }) => number)).toEqual(Array.from({ length: asked }, (_, i) => SECOND + i));
});

it('a kernel that goes on has its requests carried out, though answers lie in their slots', () => {
  const memory = new Uint8Array(new SharedArrayBuffer(4096));
  const kernel = new Kernel(memory, 1);
  kernel.ask(32);
  const first = new Life(memory, false);
  first.take();
  // Answers that were put and not published are written over requests that are in flight.
  first.answer(20);
  const second = new Life(memory, true);
  second.answer(5);
  const third = new Life(memory, true);
  expect(third.inFlight).toHaveLength(32);
  third.answer(32);
  third.push();
  expect(kernel.collect().sort((a, b) => a - b)).toEqual(Array.from({ length: 32 }, (_, i) => i + 1));
});
