import { plantDefects } from '@xenpv/test-support/planted';
import fc from 'fast-check';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { fuzzDamagedJournals, JOURNAL_WORDS, type JournalCode, replaceJournal } from '../../testing/journal-fuzzer.js';
import { journals } from '../../testing/journals-in-memory.js';
import { adoptRing } from './adopt-ring.js';
import { pushAnswers } from './push-answers.js';

vi.mock('./journal-file.js', () => import('../../testing/journals-in-memory.js'));
afterEach(() => journals.clear());

const ours: JournalCode = { adoptRing, pushAnswers, journals };

it('whatever is damaged in a journal, nothing is carried out that was not asked, nor left out in silence', {
  timeout: 120_000,
}, () => {
  const understood = fuzzDamagedJournals(ours, Number(process.env.JOURNAL_SCHEDULES ?? 2000));
  expect(understood).toBeGreaterThan(100);
});

it('random words, whatever their number, are no journal', () => {
  const words = fc.oneof(
    fc.int32Array({ maxLength: 64 }),
    fc.int32Array({ minLength: JOURNAL_WORDS, maxLength: JOURNAL_WORDS }),
  );
  fc.assert(
    fc.property(words, (random) => {
      expect(replaceJournal(ours, random)).toBeUndefined();
    }),
    { numRuns: 300 },
  );
});

/** So many find each defect. */
const RUNS = 4000;
const TIMEOUT = 120_000;
const FOLDER = 'plane/journal';
const EXAMINE = `${FOLDER}/examine.ts`;
const ADOPT = `${FOLDER}/adopt-ring.ts`;
const LAYOUT = `${FOLDER}/layout.ts`;
/** The journals of a copy are in memory too. */
const IN_MEMORY = [ADOPT, `${FOLDER}/ring-journal.ts`].map((file) => ({
  file,
  from: "'./journal-file.js'",
  to: "'../../testing/journals-in-memory.js'",
}));

describe('a defect is noticed: code that', () => {
  it('is as it was, which no defect is noticed in', async () => {
    using sources = plantDefects(new URL('../../../', import.meta.url), IN_MEMORY);
    expect(fuzzDamagedJournals(await codeOf(sources), 500, 1)).toBeGreaterThan(10);
  });

  it.each([
    ['believes a header that is damaged', EXAMINE, 'words[Header.sum] !== headerSum(words)', 'false'],
    [
      'carries out a request that is damaged',
      EXAMINE,
      'if (!this.#isWhole(at)) this.#damaged.push(at);\n    else if',
      'if',
    ],
    [
      'believes a number without its complement',
      LAYOUT,
      'words[at] === ~words[at + 1] ? words[at] >>> 0 : undefined',
      'words[at] >>> 0',
    ],
    [
      'leaves out an entry whose state is damaged',
      EXAMINE,
      "else if (state !== State.taken) return 'is damaged: the state of an entry';",
      'else if (state !== State.taken) return undefined;',
    ],
    ['does not ask whether entries contradict each other', EXAMINE, '!this.#isConsistent(mended)', 'false'],
    [
      'takes a lost state for one that was never used',
      EXAMINE,
      '        if (ahead !== 1 && this.#isWhole(at)) return false;\n        isUnused = true;\n',
      '',
    ],
    [
      'takes what was answered and not shown for answered',
      EXAMINE,
      'else if (state === State.answered) return undefined;',
      'if (state === State.answered) return undefined;',
    ],
    ['carries out in another order than was asked', EXAMINE, '.sort((a, b) => ages.get(b)! - ages.get(a)!)', ''],
    ['does not mend what it has found to be damaged', ADOPT, 'for (const entry of mended) mend(words, entry);', ''],
    ['takes again from the ring what the journal has', ADOPT, '  back.skipTaken(left.length);\n', ''],
    ['goes on as if no answer had been put', EXAMINE, 'this.#put = Math.max(this.#put, ahead + 1);', 'this.#put += 0;'],
    [
      'leaves the index of the answer before in an entry',
      `${FOLDER}/ring-journal.ts`,
      '    words[entry + Entry.answered + 1] = words[entry + Entry.answered];\n',
      '',
    ],
    [
      'takes a checksum alone for the mark of a request',
      EXAMINE,
      '[isSummed, isCopied, isTaken]',
      '[isSummed, isSummed, isCopied, isTaken]',
    ],
  ])('%s', { timeout: TIMEOUT }, async (_what, file, from, to) => {
    using sources = plantDefects(new URL('../../../', import.meta.url), [...IN_MEMORY, { file, from, to }]);
    const code = await codeOf(sources);
    expect(() => fuzzDamagedJournals(code, RUNS, 2)).toThrow(/^Property failed/);
  });
});

async function codeOf(sources: ReturnType<typeof plantDefects>): Promise<JournalCode> {
  const { adoptRing } = await sources.load<Pick<JournalCode, 'adoptRing'>>(ADOPT);
  const { pushAnswers } = await sources.load<Pick<JournalCode, 'pushAnswers'>>(`${FOLDER}/push-answers.ts`);
  const { journals } = await sources.load<Pick<JournalCode, 'journals'>>('testing/journals-in-memory.ts');
  return { adoptRing, pushAnswers, journals };
}
