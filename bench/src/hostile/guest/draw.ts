import { type Abi, BlkifOp, encodeSegment, MAX_SEGMENTS, RequestWriter, SEGMENT_WORDS } from '@xenpv/blkif';
import type { Random } from '../../program/random.js';
import { PLACES } from '../oracle/contents.js';
import type { DiskModel } from '../oracle/disk-model.js';
import { Effect, May, type Meaning, type Terms } from '../oracle/meaning.js';
import type { Sent } from '../oracle/sent.js';
import { mutate } from './mutate.js';
import type { GuestPages } from './pages.js';
import type { Race } from './race.js';

export interface DrawOptions {
  readonly random: Random;
  readonly model: DiskModel;
  readonly pages: GuestPages;
  readonly abi: Abi;
  readonly terms: Terms;
  /** One request in so many is changed by chance; 0: none. */
  readonly mutatesOneIn: number;
  /** Another thread exchanges a word of some requests. */
  readonly race: Race | undefined;
}

const { read, write, writeBarrier, flushDiskcache, discard } = BlkifOp;

type Kind = 'direct' | 'indirect' | 'flush' | 'barrier' | 'discard';
interface Choice {
  readonly weight: number;
  readonly kind: Kind;
  readonly operation: number;
}
const CHOICES: readonly Choice[] = [
  { weight: 36, kind: 'direct', operation: read },
  { weight: 30, kind: 'direct', operation: write },
  { weight: 9, kind: 'indirect', operation: read },
  { weight: 8, kind: 'indirect', operation: write },
  { weight: 3, kind: 'direct', operation: writeBarrier },
  { weight: 2, kind: 'barrier', operation: writeBarrier },
  { weight: 3, kind: 'flush', operation: flushDiskcache },
  { weight: 2, kind: 'direct', operation: flushDiskcache },
  { weight: 4, kind: 'discard', operation: discard },
];
const TURNS = CHOICES.flatMap((choice) => Array.from({ length: choice.weight }, () => choice));
/** What is left in a slot is never a reference. */
const NO_REF = 0x40000000;
/** Tells the first word of a request from that of an answer. */
const ODD_HANDLE = 0x80000000;
const ONE_IN_RACES = 24;

/** Makes requests of all kinds, good and bad, of which the oracle knows what must become. */
export class RequestDrawer {
  readonly #o: DrawOptions;
  readonly #writer: RequestWriter;

  constructor(options: DrawOptions) {
    this.#o = options;
    this.#writer = new RequestWriter(new Int32Array(options.abi.slotWords), options.abi);
  }

  /** False: there are no pages for it, or its part of the disk is in use. */
  draw(sent: Sent): boolean {
    const { random, mutatesOneIn } = this.#o;
    const { words } = this.#writer;
    const choice = TURNS[random.below(TURNS.length)];
    sent.renew(random.below(2 ** 32) | 0);
    for (let i = 0; i < words.length; i++) words[i] = random.below(2 ** 32) | NO_REF;
    if (!this.#build(sent, choice)) return this.#undo(sent);
    words[0] |= ODD_HANDLE | (random.below(2) << 24);
    if (sent.list >= 0 && words[0] >>> 16 >= 0x8000) words[0] &= 0x7fffffff;
    if (mutatesOneIn > 0 && random.below(mutatesOneIn) === 0) mutate(sent, words, this.#o);
    sent.words.set(words);
    this.#read(sent, sent.meaning);
    if (sent.meaning.conflict) return this.#undo(sent);
    if (this.#o.race?.free && random.oneIn(ONE_IN_RACES)) this.#prepareRace(sent, this.#o.race);
    if (!this.#lock(sent)) return this.#undo(sent);
    if (sent.list >= 0) this.#o.pages.bytes[sent.list].copy(sent.listBytes);
    if (sent.meaning.effect === Effect.read) this.#prepareRead(sent.meaning);
    return true;
  }

  /** Gives back all that a request has. */
  give(sent: Sent): void {
    const { model, pages } = this.#o;
    for (let i = 0; i < sent.pageCount; i++) pages.give(sent.pages[i]);
    if (sent.list >= 0) {
      pages.fill(sent.list);
      pages.give(sent.list);
    }
    if (sent.lockSectors > 0) model.give(sent.lockSector, sent.lockSectors, sent.lockHow);
    sent.pageCount = sent.lockSectors = 0;
    sent.list = -1;
  }

  #undo(sent: Sent): false {
    if (sent.raced) this.#o.race?.forget();
    sent.raced = false;
    this.give(sent);
    return false;
  }

  #build(sent: Sent, { kind, operation }: Choice): boolean {
    const { random, model, terms } = this.#o;
    sent.kind = kind;
    switch (kind) {
      case 'direct':
        return this.#direct(sent, operation);
      case 'indirect':
        return terms.maxIndirectSegments > 0 ? this.#indirect(sent, operation) : this.#direct(sent, operation);
      case 'flush':
      case 'barrier':
        this.#writer.readWrite(operation, 0, sent.idLow, sent.idHigh, random.below(2 ** 32));
        return true;
      case 'discard': {
        const pages = random.from(1, 16);
        const sector = model.pick(random, pages * PLACES, 'change', PLACES);
        if (sector < 0) return false;
        this.#writer.discard(random.below(2), sent.idLow, sent.idHigh, sector, pages * PLACES);
        return true;
      }
    }
  }

  #direct(sent: Sent, operation: number): boolean {
    const { random } = this.#o;
    const lot = random.below(100);
    const most = lot < 62 ? 1 : lot < 88 ? 4 : MAX_SEGMENTS;
    const count = random.from(1, most);
    const sector = this.#place(sent, count, operation);
    if (sector < 0) return false;
    this.#writer.readWrite(operation, count, sent.idLow, sent.idHigh, sector);
    for (let i = 0; i < count; i++) {
      const ref = this.#o.pages.refs[sent.pages[i]];
      this.#writer.segment(i, ref, sent.meaning.first[i], sent.meaning.last[i]);
    }
    return true;
  }

  #indirect(sent: Sent, operation: number): boolean {
    const { random, pages, terms } = this.#o;
    const most = terms.maxIndirectSegments;
    const count = random.oneIn(60) ? most : random.from(1, Math.min(most, random.oneIn(6) ? 48 : 14));
    if (pages.free < count + 1) return false;
    const sector = this.#place(sent, count, operation);
    if (sector < 0) return false;
    sent.list = pages.take(sent.number);
    this.#writer.indirect(operation, count, sent.idLow, sent.idHigh, sector);
    this.#writer.indirectGref(0, pages.refs[sent.list]);
    const list = pages.words[sent.list];
    for (let i = 0; i < count; i++) {
      encodeSegment(list, i * SEGMENT_WORDS, pages.refs[sent.pages[i]], sent.meaning.first[i], sent.meaning.last[i]);
    }
    return true;
  }

  /** Pages for so many segments, whole ones or parts, and a place on the disk; -1: there is none. */
  #place(sent: Sent, count: number, operation: number): number {
    const { random, model, pages, terms } = this.#o;
    if (pages.free < count) return -1;
    const { first, last } = sent.meaning;
    const whole = random.below(10) < (terms.unit === 1 ? 6 : 9);
    let sectors = 0;
    for (let i = 0; i < count; i++) {
      const page = pages.take(sent.number);
      sent.pages[sent.pageCount++] = page;
      if (operation !== read) pages.fill(page);
      first[i] = whole ? 0 : random.below(PLACES);
      last[i] = whole ? PLACES - 1 : random.from(first[i], PLACES - 1);
      sectors += last[i] - first[i] + 1;
    }
    return model.pick(random, sectors, operation === read ? 'read' : 'change', whole ? terms.unit : 1);
  }

  #read(sent: Sent, meaning: Meaning): void {
    const { abi, terms, pages } = this.#o;
    meaning.seeksDoubled = sent.mutated || sent.raced;
    meaning.read(sent.words, abi, terms, pages, sent.number);
  }

  /** Draws another value for a word; nothing becomes of it when the two meanings have nothing to do with each other. */
  #prepareRace(sent: Sent, race: Race): void {
    if (!race.prepare(sent, this.#o)) return;
    sent.raced = true;
    race.exchange();
    this.#read(sent, sent.other);
    race.exchange();
    this.#read(sent, sent.meaning);
    const [least, end] = span(sent.meaning, sent.other);
    if (!sent.other.conflict && end - least <= 1024) return;
    sent.raced = false;
    race.forget();
  }

  #lock(sent: Sent): boolean {
    const { meaning, other, raced } = sent;
    const [sector, end] = raced ? span(meaning, other) : span(meaning, meaning);
    if (end <= sector) return true;
    const how = changes(meaning) || (raced && changes(other)) ? 'change' : 'read';
    if (!this.#o.model.take(sector, end - sector, how)) return false;
    sent.lockSector = sector;
    sent.lockSectors = end - sector;
    sent.lockHow = how;
    return true;
  }

  /** What is read must not be there already: a read that does nothing would not be noticed. */
  #prepareRead({ segments, page, first, last, sector }: Meaning): void {
    const { model, pages } = this.#o;
    let at = sector;
    for (let i = 0; i < segments; i++) {
      const length = last[i] - first[i] + 1;
      const mine = page[i] >= 0 && pages.owner[page[i]] > 0;
      if (mine && pages.contents[page[i] * PLACES + first[i]] === model.content(at)) pages.fill(page[i]);
      at += length;
    }
  }
}

function changes({ effect, may }: Meaning): boolean {
  return (effect === Effect.write || effect === Effect.discard) && (may & May.okay) !== 0;
}

/** The part of the disk that matters to one of two meanings: its first sector and its end. */
function span(a: Meaning, b: Meaning): [number, number] {
  const some = [a, b].filter((meaning) => meaning.sectors > 0 && (meaning.effect === Effect.read || changes(meaning)));
  const least = Math.min(...some.map(({ sector }) => sector));
  return some.length === 0 ? [0, 0] : [least, Math.max(...some.map(({ sector, sectors }) => sector + sectors))];
}
