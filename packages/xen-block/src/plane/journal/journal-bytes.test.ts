import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BackRing, FrontRing } from '@xenpv/ring';
import { afterAll, describe, expect, it } from 'vitest';
import { XenBlockError } from '../../errors.js';
import { adoptRing } from './adopt-ring.js';
import { HEADER_WORDS } from './layout.js';
import { pushAnswers } from './push-answers.js';

const folder = mkdtempSync('/dev/shm/journal-bytes-');
afterAll(() => rmSync(folder, { recursive: true }));

const TIMEOUT = 120_000;
const SLOT_WORDS = 28;
const RING = { refs: Uint32Array.of(7), eventChannel: 3 };
const HEADER_BYTES = 4 * HEADER_WORDS;
const path = join(folder, 'journal');

/** A ring whose backend was killed, the bytes of its journal, and the numbers of the requests to be carried out. */
interface Killed {
  readonly memory: Uint8Array<SharedArrayBuffer>;
  readonly bytes: Buffer;
  readonly open: readonly number[];
}

/**
 * So many requests are asked for and taken; the places in which some of them were answered, in this order; then of some
 * more answers that were put and not published.
 */
function killed(asked: number, answered: readonly number[], unpublished: readonly number[]): Killed {
  const memory = new Uint8Array(new SharedArrayBuffer(4096));
  const front = new FrontRing(memory, SLOT_WORDS * 4);
  const back = BackRing.attach(memory, SLOT_WORDS * 4);
  const { journal } = adoptRing(back, RING, { path, adopt: false });
  if (!journal) throw new Error('no journal');
  const words = new Int32Array(SLOT_WORDS);
  for (let number = 1; number <= asked; number++) front.putRequest(words.fill(number), 0, SLOT_WORDS);
  front.pushRequests();
  const entries: number[] = [];
  for (let count = back.harvest(); count > 0; count--) {
    const index = back.takeRequest(words, 0);
    entries.push(journal.take(words, 0, index));
  }
  const answer = (place: number) => {
    journal.answer(entries[place], back.responsesProduced);
    back.putResponse(Int32Array.of(place + 1, 0, 0, 0), 0, 4);
  };
  for (const place of answered) answer(place);
  pushAnswers(back, journal);
  for (const place of unpublished) answer(place);
  const bytes = readFileSync(path);
  journal.leave();
  const numbers = entries.map((_, place) => place + 1);
  return { memory, bytes, open: numbers.filter((number) => !answered.includes(number - 1)) };
}

/** What a next process carries out with this file as the journal, or `lost`: it says that it does not know. */
function recovered({ memory }: Killed, bytes: Buffer): readonly number[] | 'lost' {
  writeFileSync(path, bytes);
  try {
    const { journal, entries } = adoptRing(BackRing.attach(memory, SLOT_WORDS * 4), RING, { path, adopt: true });
    const words = new Int32Array(SLOT_WORDS);
    const numbers = Array.from(entries, (entry) => {
      journal?.copySlot(entry, words, 0);
      return words.every((word) => word === words[0]) ? words[0] : -1;
    });
    journal?.leave();
    return numbers;
  } catch (error) {
    if (error instanceof XenBlockError && error.code === 'ERR_JOURNAL_LOST') return 'lost';
    throw error;
  }
}

/** Tries files; what is carried out must be all that is open, or nothing is. Resolves with how many were lost. */
function tryAll(one: Killed, files: Iterable<readonly [what: string, bytes: Buffer]>): { good: number; lost: number } {
  const came = { good: 0, lost: 0 };
  for (const [what, bytes] of files) {
    const numbers = recovered(one, bytes);
    if (numbers === 'lost') came.lost++;
    else if (numbers.join() === one.open.join()) came.good++;
    else throw new Error(`${what}: ${numbers} are carried out, and ${one.open} are open`);
  }
  return came;
}

function* flips(bytes: Buffer): Generator<readonly [string, Buffer]> {
  for (let at = 0; at < bytes.length; at++) {
    // All bits of the header; one bit of each other byte, and the whole byte.
    const masks = at < HEADER_BYTES ? [1, 2, 4, 8, 16, 32, 64, 128, 255] : [1 << (at % 8), 255];
    for (const mask of masks) {
      const flipped = Buffer.from(bytes);
      flipped[at] ^= mask;
      yield [`byte ${at} ^ ${mask}`, flipped];
    }
  }
}

describe.each<[string, () => Killed]>([
  ['half a ring', () => killed(16, [5, 2, 9], [])],
  ['a full ring', () => killed(32, [31, 0, 17, 8], [3, 30])],
])('the file of a killed process with %s', (_, make) => {
  const one = make();

  it('as it was left has all that is open', () => {
    expect(recovered(one, one.bytes)).toEqual(one.open);
  });

  it('with any byte of it flipped is understood as it was, or said to be lost', { timeout: TIMEOUT }, () => {
    const { good, lost } = tryAll(one, flips(one.bytes));
    expect(Math.min(good, lost)).toBeGreaterThan(100);
  });

  it('cut to any length is said to be lost', { timeout: TIMEOUT }, () => {
    const lengths = Array.from(
      one.bytes.keys(),
      (length) => [`${length} bytes`, one.bytes.subarray(0, length)] as const,
    );
    expect(tryAll(one, lengths)).toEqual({ good: 0, lost: one.bytes.length });
  });

  it('with more behind it is understood as it was', () => {
    const longer = [1, 2, 3, 4, 63, 4096, 1 << 20].map(
      (more) => [`${more} more`, Buffer.concat([one.bytes, Buffer.alloc(more, 0xa5)])] as const,
    );
    expect(tryAll(one, longer)).toEqual({ good: longer.length, lost: 0 });
  });

  it('with any word of it that of another one, of the same connection, is understood as it was, or lost', () => {
    const { bytes } = killed(24, [1, 0], [4]);
    const mixed = Array.from({ length: one.bytes.length / 4 }, (_none, word) => {
      const at = 4 * word;
      const parts = [one.bytes.subarray(0, at), bytes.subarray(at, at + 4), one.bytes.subarray(at + 4)];
      return [`word ${word}`, Buffer.concat(parts)] as const;
    });
    const { good, lost } = tryAll(one, mixed);
    expect(good + lost).toBe(mixed.length);
  });
});
