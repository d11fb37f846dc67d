import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BackRing } from '@xenpv/ring';
import { afterAll, describe, expect, it } from 'vitest';
import { adoptRing } from './adopt-ring.js';
import { RingJournal } from './ring-journal.js';

const folder = mkdtempSync(join(tmpdir(), 'journal-age-'));
afterAll(() => rmSync(folder, { recursive: true }));

const SLOTS = 32;
const SLOT_WORDS = 28;
const RING = { refs: Uint32Array.of(7), eventChannel: 3, slots: SLOTS, slotWords: SLOT_WORDS };
const SLOTS_WORD = 16;
const TURN = 2 ** 32;
let files = 0;

/** A journal and its ring, which go on from any index as if as many requests had been answered in between. */
function journal() {
  const path = join(folder, `ring-${files++}`);
  const opened = RingJournal.create(path, RING, 0);
  const memory = new Int32Array(new SharedArrayBuffer(4096));
  const take = (index: number, content = 0) => {
    const slot = new Int32Array(SLOT_WORDS).fill(content);
    memory.set(slot, SLOTS_WORD + (index % SLOTS) * SLOT_WORDS);
    return opened.take(slot, 0, index | 0);
  };
  /** What the requests that a next process finds are filled with. */
  const left = (rspProd: number): number[] => {
    opened.published(rspProd);
    memory.set([rspProd + SLOTS, 0, rspProd]);
    const back = BackRing.attach(new Uint8Array(memory.buffer as SharedArrayBuffer), SLOT_WORDS * 4);
    const next = adoptRing(back, RING, { path, adopt: true });
    const words = new Int32Array(SLOT_WORDS);
    return [...next.entries].map((entry) => {
      next.journal?.copySlot(entry, words, 0);
      return words[0];
    });
  };
  return { take, left, answer: (entry: number, index: number) => opened.answer(entry, index | 0) };
}

const AGES = [1, SLOTS, 2 ** 31 - 1 - SLOTS, 2 ** 31 - 1, 2 ** 31, 2 ** 31 + 1, 2 ** 31 + SLOTS, 3e9];
const TURNS = [TURN - SLOTS - 1, TURN - SLOTS, TURN - 1, TURN, TURN + 1, TURN + SLOTS, 3 * TURN + 5];

describe('a request that was answered', () => {
  it.each(AGES)('and an entry that was not used for %s further answers is not carried out again', (age) => {
    const { take, answer, left } = journal();
    const first = Array.from({ length: SLOTS }, (_, i) => take(i));
    for (const [i, entry] of first.entries()) answer(entry, i);
    const at = SLOTS - 1 + age;
    expect(left(at + 1)).toEqual([]);
    answer(take(at), at);
    expect(left(at + 1)).toEqual([]);
  });

  // At a low depth all entries are used in turn, so that none says what was true a turn of the indices ago.
  it.each([...AGES, ...TURNS])('is not carried out again when it was one of many at once, %s answers ago', (age) => {
    const { take, answer, left } = journal();
    const first = Array.from({ length: SLOTS }, (_, i) => take(i, 1));
    for (const [i, entry] of first.entries()) answer(entry, i);
    // The last rounds of all those answers.
    const end = SLOTS + age;
    for (let i = Math.max(SLOTS, end - 2 * SLOTS); i < end; i++) answer(take(i, 2), i);
    expect(left(end)).toEqual([]);
  });
});

describe('a request that is in flight', () => {
  it.each(AGES)('is found whatever its age: %s answers', (age) => {
    const { take, answer, left } = journal();
    take(0, 77);
    for (let i = Math.max(1, age - 2 * SLOTS); i < age; i++) answer(take(i, 1), i - 1);
    expect(left(age - 1)).toEqual([77]);
  });

  it.each(AGES)('and is %s answers old comes before a later one', (age) => {
    const { take, left } = journal();
    take(0, 1);
    take(age, 2);
    expect(left(age - 1)).toEqual([1, 2]);
  });

  it.each(AGES)('and was answered unseen, after %s answers, is carried out again', (index) => {
    const { take, answer, left } = journal();
    const entries = Array.from({ length: SLOTS }, (_, i) => take(index + i, i));
    for (const [i, entry] of entries.entries()) answer(entry, index + i);
    expect(left(index + 3)).toEqual(Array.from({ length: SLOTS - 3 }, (_, i) => i + 3));
  });
});
