import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BackRing, FrontRing } from '@xenpv/ring';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { XenBlockError } from '../../errors.js';
import { adoptRing, type JournalOptions } from './adopt-ring.js';
import { ENTRY_WORDS, Entry, entryAt, Header } from './layout.js';
import { pushAnswers } from './push-answers.js';

const folder = mkdtempSync(join(tmpdir(), 'lost-journal-'));
afterAll(() => rmSync(folder, { recursive: true }));

const SLOT_WORDS = 28;
const CONNECTION = { name: 'qdisk-5-51712/0', refs: Uint32Array.of(7), eventChannel: 3 };
let files = 0;
let path: string;
beforeEach(() => {
  path = join(folder, `folder-${files++}`, 'qdisk-5-51712-0');
  mkdirSync(join(path, '..'));
});

/** A frontend whose requests are their numbers, from 1 on, in each word. */
class Frontend {
  readonly memory = new Uint8Array(new SharedArrayBuffer(4096));
  readonly #ring = new FrontRing(this.memory, SLOT_WORDS * 4);
  #next = 1;

  ask(count: number): void {
    for (; count > 0; count--) this.#ring.putRequest(new Int32Array(SLOT_WORDS).fill(this.#next++), 0, SLOT_WORDS);
    this.#ring.pushRequests();
  }

  collect(): number[] {
    const words = new Int32Array(4);
    return Array.from({ length: this.#ring.harvest() }, () => {
      this.#ring.takeResponse(words, 0, 4);
      return words[0];
    });
  }

  attach(options: Partial<JournalOptions> = {}, connection = CONNECTION) {
    const back = BackRing.attach(this.memory, SLOT_WORDS * 4);
    const { journal, entries, dropped } = adoptRing(back, connection, { path, adopt: true, ...options });
    const words = new Int32Array(SLOT_WORDS);
    const take = (count: number) =>
      Array.from({ length: Math.min(count, back.harvest()) }, () => {
        const index = back.takeRequest(words, 0);
        return { number: words[0], entry: journal?.take(words, 0, index) ?? 0 };
      });
    const recovered = Array.from(entries, (entry) => {
      journal?.copySlot(entry, words, 0);
      return { number: words[0], entry };
    });
    const answer = (requests: readonly { number: number; entry: number }[]) => {
      for (const { number, entry } of requests) {
        journal?.answer(entry, back.responsesProduced);
        back.putResponse(Int32Array.of(number, 0, 0, 0), 0, 4);
      }
      pushAnswers(back, journal);
    };
    return { recovered, dropped, take, answer, leave: () => journal?.leave() };
  }
}

/** Requests 1 to 8 were taken, and 3 and 4 answered, when the process was killed. */
function killed(): Frontend {
  const front = new Frontend();
  front.ask(8);
  const life = front.attach({ adopt: false });
  const requests = life.take(8);
  life.answer(requests.slice(2, 4));
  expect(front.collect()).toEqual([3, 4]);
  return front;
}

/** The same, and then all were answered. */
function settled(): Frontend {
  const front = killed();
  const life = front.attach();
  life.answer(life.recovered);
  front.collect();
  return front;
}

const change = (how: (words: Int32Array) => void) => () => {
  const bytes = new Uint8Array(readFileSync(path));
  how(new Int32Array(bytes.buffer));
  writeFileSync(path, bytes);
};
const numbers = (requests: readonly { number: number }[]) => requests.map(({ number }) => number);
/** The entry of the request that was taken as the `n`th, from 0 on. */
const at = (n: number) => entryAt(n, SLOT_WORDS);

const LOSSES: readonly [name: string, lose: () => void, found: RegExp][] = [
  ['gone', () => rmSync(path), /is gone/],
  ['gone with its folder', () => rmSync(join(path, '..'), { recursive: true }), /is gone/],
  ['empty', () => truncateSync(path, 0), /cut short/],
  ['cut in its header', () => truncateSync(path, 30), /cut short/],
  ['cut in its entries', () => truncateSync(path, 2000), /cut short/],
  ['zeroes', change((words) => words.fill(0)), /is no journal/],
  ['a text', () => writeFileSync(path, 'an operator wrote this, or another program\n'.repeat(200)), /is no journal/],
  ['of the version before', change((words) => words.set([0x314a4258])), /is of version 1/],
  ['of a newer version', change((words) => words.set([3], Header.version)), /is of version 3/],
  ['damaged in its header', change((words) => words.set([64], Header.slots)), /damaged: its header/],
  ['damaged in its indices', change((words) => words.set([1, 1, 1, 1], Header.publishing)), /damaged: its indices/],
  ['damaged in a state', change((words) => words.set([17], at(4) + Entry.state)), /damaged: the state/],
  [
    'damaged in an answer',
    change((words) => words.set([99], at(2) + Entry.answered)),
    /damaged: the index of an answer/,
  ],
  ['without a request', change((words) => words.set([0], at(5) + Entry.state)), /contradict/],
  ['of another connection', change((words) => swapConnection(words)), /another connection/],
  ['a folder', () => [rmSync(path), mkdirSync(path)], /cannot be read/],
  ['a link', () => [rmSync(path), symlinkSync('/dev/zero', path)], /cannot be read|cut short/],
];

/** The journal of a ring with the same indices, whose frontend had another event channel. */
function swapConnection(words: Int32Array): void {
  const other = new Frontend();
  const mine = path;
  path = `${mine}-other`;
  other.ask(8);
  const life = other.attach({ adopt: false }, { ...CONNECTION, eventChannel: 4 });
  life.answer(life.take(8).slice(2, 4));
  words.set(new Int32Array(new Uint8Array(readFileSync(path)).buffer));
  path = mine;
}

describe.each(LOSSES)('a journal that is %s', (_name, lose, found) => {
  it('has its ring not attached, and the error says which, why and what to do', () => {
    const front = killed();
    lose();
    const attach = () => front.attach();
    expect(attach).toThrow(XenBlockError);
    expect(attach).toThrow(expect.objectContaining({ code: 'ERR_JOURNAL_LOST', path }));
    expect(attach).toThrow(found);
    expect(attach).toThrow(`the journal ${path} `);
    expect(attach).toThrow('xen-blockd resume qdisk-5-51712 --without-journal');
    // Nothing was touched: it may be put back.
    expect(front.collect()).toEqual([]);
  });

  it('does not matter to a ring without unanswered requests', () => {
    const front = settled();
    lose();
    if (_name.includes('folder')) rmSync(path, { recursive: true, force: true });
    mkdirSync(join(path, '..'), { recursive: true });
    const life = front.attach();
    expect(life.recovered).toEqual([]);
    front.ask(2);
    life.answer(life.take(2));
    expect(front.collect()).toEqual([9, 10]);
  });

  it('is done without when somebody says so: what the ring shows is carried out', () => {
    const front = killed();
    lose();
    if (_name.includes('folder')) rmSync(path, { recursive: true, force: true });
    mkdirSync(join(path, '..'), { recursive: true });
    const life = front.attach({ whenLost: 'go-on' });
    expect(life.dropped).toMatch(found.source.includes('cannot') ? /./ : found);
    const requests = life.take(32);
    // 1 and 2 are in slots that have answers; 3 and 4 were answered, and are in the way.
    expect(numbers(requests)).toEqual([3, 4, 5, 6, 7, 8]);
    life.answer(requests);
    expect(front.collect()).toHaveLength(6);
  });
});

it.each([true, false])(
  'a new frontend on a ring that has had no answer is served, whatever journal is there',
  (another) => {
    killed();
    const front = new Frontend();
    front.ask(3);
    const life = front.attach({}, another ? { ...CONNECTION, refs: Uint32Array.of(9) } : CONNECTION);
    expect(life.dropped).toMatch(another ? /another connection/ : /another kernel/);
    expect(life.recovered).toEqual([]);
    const requests = life.take(3);
    expect(numbers(requests)).toEqual([1, 2, 3]);
    life.answer(requests);
    expect(front.collect()).toEqual([1, 2, 3]);
  },
);

it('a journal of an earlier life, put back when the ring has gone on, is not believed', () => {
  const front = killed();
  const old = readFileSync(path);
  const life = front.attach();
  life.answer(life.recovered);
  front.ask(4);
  life.answer(life.take(4).slice(0, 1));
  writeFileSync(path, old);
  expect(() => front.attach()).toThrow(/is stale/);
});

it('a clean stop leaves a record, so that what a frontend asks meanwhile is no loss', () => {
  const front = settled();
  front.attach().leave();
  front.ask(3);
  const life = front.attach();
  expect(life).toMatchObject({ recovered: [], dropped: undefined });
  life.answer(life.take(3));
  expect(front.collect()).toEqual([9, 10, 11]);
});

describe('an entry that is damaged', () => {
  it.each<[string, (words: Int32Array) => void]>([
    ['in its request', (words) => words.fill(0xbad, at(5) + ENTRY_WORDS, at(5) + ENTRY_WORDS + 9)],
    ['in its checksum', (words) => words.set([5], at(5) + Entry.sum)],
    ['in its index', (words) => words.set([5000], at(5) + Entry.taken)],
    ['in its tries', (words) => words.set([-5], at(5) + Entry.tries)],
  ])('%s is mended from its slot', (_name, damage) => {
    const front = killed();
    change(damage)();
    for (let lives = 0; lives < 2; lives++) {
      expect(numbers(front.attach().recovered)).toEqual([1, 2, 5, 6, 7, 8]);
    }
    const life = front.attach();
    life.answer(life.recovered);
    expect(front.collect()).toEqual([1, 2, 5, 6, 7, 8]);
  });

  it('and whose slot has an answer in it is a loss', () => {
    const front = killed();
    change((words) => words.set([0xbad], at(0) + ENTRY_WORDS + 20))();
    expect(() => front.attach()).toThrow(/damaged: a request in flight/);
  });
});

it('a folder that cannot be written is no loss as long as the journal is there', () => {
  const front = killed();
  chmodSync(join(path, '..'), 0o500);
  const life = front.attach();
  expect(numbers(life.recovered)).toEqual([1, 2, 5, 6, 7, 8]);
  life.answer(life.recovered);
  chmodSync(join(path, '..'), 0o700);
  expect(front.collect()).toHaveLength(6);
});
