/** Journals of killed processes, damaged by chance, and what a next process makes of them. */
import { BackRing, FrontRing } from '@xenpv/ring';
import fc from 'fast-check';
import type { adoptRing } from '../plane/journal/adopt-ring.js';
import { ENTRY_WORDS, entryAt, HEADER_WORDS, journalBytes, State } from '../plane/journal/layout.js';
import type { pushAnswers } from '../plane/journal/push-answers.js';

const SLOT_WORDS = 28;
const SLOTS = 32;
export const JOURNAL_WORDS = journalBytes({ slots: SLOTS, slotWords: SLOT_WORDS }) / 4;
const ENTRY_SPAN = ENTRY_WORDS + SLOT_WORDS;
const RING = { refs: Uint32Array.of(7), eventChannel: 3 };
const PATH = 'journal';

/** What is tried: the code, and the memory in which its journals are; see journals-in-memory. */
export interface JournalCode {
  readonly adoptRing: typeof adoptRing;
  readonly pushAnswers: typeof pushAnswers;
  readonly journals: Map<string, SharedArrayBuffer>;
}

/** Requests of a round, how many of those in flight are answered, and of how many the answers are put and not published. */
interface Round {
  readonly asked: number;
  readonly answered: number;
  readonly put: number;
}

/** What a next process carries out: what the journal has, and what it takes from the ring after that. */
interface CarriedOut {
  readonly recovered: readonly number[];
  readonly taken: readonly number[];
}

const rounds = fc.array(fc.record({ asked: fc.nat(32), answered: fc.nat(32), put: fc.nat(3) }), {
  minLength: 1,
  maxLength: 5,
});
const ENTRY_HEADS = Array.from({ length: SLOTS }, (_, entry) => entryAt(entry, SLOT_WORDS));
/** Most words are of requests; those that say what is in them are drawn more often. */
const word = fc.oneof(
  fc.nat(JOURNAL_WORDS - 1),
  fc.nat(HEADER_WORDS - 1),
  fc.tuple(fc.constantFrom(...ENTRY_HEADS), fc.nat(ENTRY_WORDS - 1)).map(([at, behind]) => at + behind),
);
/** Bits of a word are flipped, or it gets one of the values that mean something, or those of another entry. */
const change = fc.oneof(
  fc
    .oneof(
      fc.integer({ min: 1 }),
      fc.nat(31).map((bit) => 1 << bit),
    )
    .map((flips) => ({ flips })),
  fc.constantFrom(...Object.values(State), 1, -1).map((value) => ({ value })),
  fc.integer({ min: 1, max: SLOTS - 1 }).map((entriesOn) => ({ entriesOn })),
);
type Change = { readonly flips: number } | { readonly value: number } | { readonly entriesOn: number };
const damage = fc.array(fc.record({ word, change }), { minLength: 1, maxLength: 4 });

/**
 * Damages so many journals. Throws if something is carried out that was not asked, twice, in another order or as another
 * request, or if something is left out in silence; or if a journal is understood that is older than its ring. Returns how many were understood that had requests.
 */
export function fuzzDamagedJournals(code: JournalCode, runs: number, seed?: number): number {
  let understood = 0;
  const damaged = fc.property(rounds, damage, (schedule, places) => {
    const { memory, unanswered } = killed(code, schedule);
    const words = new Int32Array(code.journals.get(PATH) ?? new ArrayBuffer(0));
    for (const { word, change } of places) words[word] = changed(words, word, change);
    const found = carriedOut(code, memory);
    if (!found || unanswered.length === 0) return;
    understood++;
    mustBeAll(found, unanswered);
  });
  const old = fc.property(rounds, (schedule) => {
    const { memory, unanswered, before } = killed(code, schedule);
    if (!before) return;
    code.journals.set(PATH, before);
    const found = carriedOut(code, memory);
    if (found && unanswered.length > 0) throw new Error('a journal is understood that the ring has left behind');
  });
  const options = { numRuns: runs, ...(seed !== undefined && { seed }) };
  fc.assert(damaged, options);
  fc.assert(old, options);
  return understood;
}

function changed(words: Int32Array, word: number, change: Change): number {
  if ('flips' in change) return words[word] ^ change.flips;
  return 'value' in change ? change.value : words[(word + change.entriesOn * ENTRY_SPAN) % JOURNAL_WORDS];
}

/** Words that are no journal must be said to be lost. */
export function replaceJournal(code: JournalCode, random: Int32Array): CarriedOut | undefined {
  const { memory } = killed(code, [{ asked: 9, answered: 2, put: 0 }]);
  const buffer = new SharedArrayBuffer(random.byteLength);
  new Int32Array(buffer).set(random);
  code.journals.set(PATH, buffer);
  return carriedOut(code, memory);
}

/** A journal that is taken for that of another kernel, whose ring is new, leaves all to the ring. */
function mustBeAll({ recovered, taken }: CarriedOut, unanswered: readonly number[]): void {
  const all = [...recovered, ...taken];
  if (all.join() === unanswered.join()) return;
  throw new Error(`${recovered} are carried out, and then ${taken}; unanswered are ${unanswered}`);
}

/**
 * A ring after some rounds under one process, which was killed, and the numbers of its unanswered requests; `before`: its
 * journal when answers were last about to be published.
 */
function killed({ adoptRing, pushAnswers, journals }: JournalCode, schedule: readonly Round[]) {
  const memory = new Uint8Array(new SharedArrayBuffer(4096));
  const front = new FrontRing(memory, SLOT_WORDS * 4);
  const back = BackRing.attach(memory, SLOT_WORDS * 4);
  const { journal } = adoptRing(back, RING, { path: PATH, adopt: false });
  const inFlight: { number: number; entry: number }[] = [];
  const words = new Int32Array(SLOT_WORDS);
  const answer = ({ number, entry }: { number: number; entry: number }) => {
    journal?.answer(entry, back.responsesProduced);
    back.putResponse(Int32Array.of(number, 0, 0, 0), 0, 4);
  };
  let next = 1;
  let left: readonly number[] = [];
  let before: SharedArrayBuffer | undefined;
  for (const [i, { asked, answered, put }] of schedule.entries()) {
    for (let count = 0; count < asked && !front.full; count++) {
      front.putRequest(words.fill(next++), 0, SLOT_WORDS);
    }
    front.pushRequests();
    for (let count = back.harvest(); count > 0; count--) {
      const index = back.takeRequest(words, 0);
      inFlight.push({ number: words[0], entry: journal?.take(words, 0, index) ?? 0 });
    }
    const ends = answered > 0 ? inFlight.splice(-answered, answered) : [];
    if (ends.length > 0) before = copyOf(journals.get(PATH));
    for (const request of ends) answer(request);
    pushAnswers(back, journal);
    for (let count = front.harvest(); count > 0; count--) front.takeResponse(words, 0, 4);
    left = inFlight.map(({ number }) => number);
    // The process dies before these are published.
    if (i === schedule.length - 1) for (const request of inFlight.splice(0, put)) answer(request);
  }
  return { memory, unanswered: left, before };
}

function copyOf(buffer: SharedArrayBuffer | undefined): SharedArrayBuffer | undefined {
  if (!buffer) return undefined;
  const copy = new SharedArrayBuffer(buffer.byteLength);
  new Uint8Array(copy).set(new Uint8Array(buffer));
  return copy;
}

/** Undefined: it has said that the journal is lost. A request that is not as it was asked is the number -1. */
function carriedOut({ adoptRing }: JournalCode, memory: Uint8Array<SharedArrayBuffer>): CarriedOut | undefined {
  const words = new Int32Array(SLOT_WORDS);
  const number = () => (words.every((word) => word === words[0]) ? words[0] : -1);
  try {
    const back = BackRing.attach(memory, SLOT_WORDS * 4);
    const { journal, entries } = adoptRing(back, RING, { path: PATH, adopt: true });
    const recovered = Array.from(entries, (entry) => {
      journal?.copySlot(entry, words, 0);
      return number();
    });
    const taken = Array.from({ length: back.harvest() }, () => {
      back.takeRequest(words, 0);
      return number();
    });
    return { recovered, taken };
  } catch (error) {
    if ((error as { code?: unknown }).code === 'ERR_JOURNAL_LOST') return undefined;
    throw error;
  }
}
