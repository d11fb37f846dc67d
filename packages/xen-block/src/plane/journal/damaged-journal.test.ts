import { BackRing, FrontRing } from '@xenpv/ring';
import fc from 'fast-check';
import { afterEach, expect, it, vi } from 'vitest';
import { XenBlockError } from '../../errors.js';
import { journals } from '../../testing/journals-in-memory.js';
import { adoptRing } from './adopt-ring.js';
import { journalBytes } from './layout.js';
import { pushAnswers } from './push-answers.js';

vi.mock('./journal-file.js', () => import('../../testing/journals-in-memory.js'));
afterEach(() => journals.clear());

const SLOT_WORDS = 28;
const RING = { refs: Uint32Array.of(7), eventChannel: 3 };

/** A ring after some rounds under one process, which was killed, and the numbers of its unanswered requests. */
function killed(rounds: readonly { asked: number; answered: number }[]) {
  const memory = new Uint8Array(new SharedArrayBuffer(4096));
  const front = new FrontRing(memory, SLOT_WORDS * 4);
  const back = BackRing.attach(memory, SLOT_WORDS * 4);
  const { journal } = adoptRing(back, RING, { path: 'journal', adopt: false });
  const inFlight: { number: number; entry: number }[] = [];
  const words = new Int32Array(SLOT_WORDS);
  let next = 1;
  for (const { asked, answered } of rounds) {
    for (let i = 0; i < asked && !front.full; i++) front.putRequest(words.fill(next++), 0, SLOT_WORDS);
    front.pushRequests();
    for (let count = back.harvest(); count > 0; count--) {
      const index = back.takeRequest(words, 0);
      inFlight.push({ number: words[0], entry: journal?.take(words, 0, index) ?? 0 });
    }
    for (const { number, entry } of inFlight.splice(-answered, answered)) {
      journal?.answer(entry, back.responsesProduced);
      back.putResponse(Int32Array.of(number, 0, 0, 0), 0, 4);
    }
    pushAnswers(back, journal);
    for (let count = front.harvest(); count > 0; count--) front.takeResponse(words, 0, 4);
  }
  return { memory, unanswered: inFlight.map(({ number }) => number) };
}

/** What a next process carries out again; or undefined: it has said that the journal is lost. */
function recovered(memory: Uint8Array<SharedArrayBuffer>): number[] | undefined {
  try {
    const { journal, entries } = adoptRing(BackRing.attach(memory, SLOT_WORDS * 4), RING, {
      path: 'journal',
      adopt: true,
    });
    const words = new Int32Array(SLOT_WORDS);
    return Array.from(entries, (entry) => {
      journal?.copySlot(entry, words, 0);
      expect(words.every((word) => word === words[0])).toBe(true);
      return words[0];
    });
  } catch (error) {
    expect(error).toBeInstanceOf(XenBlockError);
    expect(error).toMatchObject({ code: 'ERR_JOURNAL_LOST' });
    return undefined;
  }
}

const rounds = fc.array(fc.record({ asked: fc.nat(32), answered: fc.nat(32) }), { minLength: 1, maxLength: 5 });
const JOURNAL_WORDS = journalBytes({ slots: 32, slotWords: SLOT_WORDS }) / 4;
const damage = fc.array(fc.record({ word: fc.nat(JOURNAL_WORDS - 1), flips: fc.integer({ min: 1 }) }), {
  minLength: 1,
  maxLength: 4,
});

it('whatever is damaged in a journal, nothing is carried out that was not asked, nor left out in silence', () => {
  let found = 0;
  fc.assert(
    fc.property(rounds, damage, (schedule, places) => {
      const { memory, unanswered } = killed(schedule);
      const words = new Int32Array(journals.get('journal') ?? new ArrayBuffer(0));
      for (const { word, flips } of places) words[word] ^= flips;
      const numbers = recovered(memory);
      if (!numbers || unanswered.length === 0) return;
      found++;
      // A journal that is taken for that of another kernel, whose ring is new, leaves all to the ring.
      if (numbers.length > 0) expect(numbers).toEqual(unanswered);
      else expect(new Int32Array(memory.buffer)[2]).toBe(0);
    }),
    { numRuns: Number(process.env.JOURNAL_SCHEDULES ?? 2000) },
  );
  expect(found).toBeGreaterThan(100);
});

it('random words, whatever their number, are no journal', () => {
  const words = fc.oneof(
    fc.int32Array({ maxLength: 64 }),
    fc.int32Array({ minLength: JOURNAL_WORDS, maxLength: JOURNAL_WORDS }),
  );
  fc.assert(
    fc.property(words, (random) => {
      const { memory } = killed([{ asked: 9, answered: 2 }]);
      const buffer = new SharedArrayBuffer(random.byteLength);
      new Int32Array(buffer).set(random);
      journals.set('journal', buffer);
      expect(recovered(memory)).toBeUndefined();
    }),
    { numRuns: 300 },
  );
});
