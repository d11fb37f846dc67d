/**
 * Journals that are kept: such as each version has written, damaged ones, and files that are none. What a process makes of
 * one, on a kernel's ring as it was then, stays as it is written in its file.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BackRing } from '@xenpv/ring';
import { afterAll, describe, expect, it } from 'vitest';
import { adoptRing } from './adopt-ring.js';

const CORPUS = new URL('../../../corpus/journal/', import.meta.url);
const TIMEOUT = 120_000;
const SLOT_WORDS = 28;
/** No divisor of the words of an entry. */
const STRIDE = 5;
const RING = { refs: Uint32Array.of(7), eventChannel: 3 };
const folder = mkdtempSync('/dev/shm/kept-journals-');
afterAll(() => rmSync(folder, { recursive: true }));
const path = join(folder, 'journal');

/** Words in hexadecimal, `x28` behind those that come so many times. */
function bytesOf(text: string): Uint8Array {
  const words = text
    .trim()
    .split(/\s+/)
    .flatMap((token) => {
      const [word, times = '1'] = token.split('x');
      return Array<number>(Number(times)).fill(Number.parseInt(word, 16));
    });
  return new Uint8Array(Uint32Array.from(words).buffer);
}

function readKept(name: string) {
  const text = readFileSync(new URL(name, CORPUS), 'utf8').replaceAll(/^#.*$/gm, '');
  const [, expected, ring, journal] = /^\s*expect:(.*)\nring:\n([^:]*)\njournal:\n([^:]*)$/.exec(text) ?? [];
  const memory = new Uint8Array(new SharedArrayBuffer(4096));
  memory.set(bytesOf(ring));
  return { expected: expected.trim(), memory, journal: bytesOf(journal) };
}

/** In the words of the corpus: the requests that are carried out; `new` and what the ring has; or `lost` and why. */
function comesTo(memory: Uint8Array<SharedArrayBuffer>, bytes: Uint8Array): string {
  writeFileSync(path, bytes);
  try {
    const back = BackRing.attach(memory, SLOT_WORDS * 4);
    const { journal, entries, dropped } = adoptRing(back, RING, { path, adopt: true });
    const words = new Int32Array(SLOT_WORDS);
    const number = () => (words.every((word) => word === words[0]) ? words[0] : -1);
    const recovered = Array.from(entries, (entry) => {
      journal?.copySlot(entry, words, 0);
      return number();
    });
    const taken = Array.from({ length: back.harvest() }, () => {
      back.takeRequest(words, 0);
      return number();
    });
    journal?.leave();
    return [...(dropped === undefined ? [] : ['new']), ...recovered, ...taken].join(' ');
  } catch (error) {
    const [, found] = /^the journal \S+ (.*), and \d+ requests of its ring/.exec((error as Error).message) ?? [];
    if (found === undefined) throw error;
    return `lost ${found}`;
  }
}

const kept = readdirSync(CORPUS).filter((name) => name.endsWith('.txt'));

describe('a kept journal comes to what its file says', () => {
  it.each(kept)('%s', (name) => {
    const { expected, memory, journal } = readKept(name);
    expect(comesTo(memory, journal)).toBe(expected);
  });

  it('there are some of each version, and some that are none', () => {
    for (const of of ['v1-', 'v2-', 'v3-', 'foreign-', 'another-']) {
      expect(kept.filter((name) => name.startsWith(of)).length).toBeGreaterThan(0);
    }
  });
});

it('a kept journal with a word of it flipped comes to the same, or is said to be lost', { timeout: TIMEOUT }, () => {
  for (const name of kept.filter((file) => file.startsWith('v2-'))) {
    const { expected, memory, journal } = readKept(name);
    if (expected.startsWith('lost')) continue;
    for (let at = 0; at < journal.length; at += 4 * STRIDE) {
      const damaged = Uint8Array.from(journal);
      damaged[at + (at % 3)] ^= 1 << (at % 7);
      const found = comesTo(memory, damaged).replace(/^new ?/, '');
      expect(found.startsWith('lost') || found === expected, `${name}, word ${at / 4}: ${found}`).toBe(true);
    }
  }
});
