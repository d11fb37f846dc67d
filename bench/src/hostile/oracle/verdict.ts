import { BlkifStatus } from '@xenpv/blkif';
import type { GuestPages } from '../guest/pages.js';
import { ANY, PLACES, SECTOR } from './contents.js';
import type { DiskModel } from './disk-model.js';
import { bitOf, Effect, May, type Meaning } from './meaning.js';
import type { Sent } from './sent.js';

/** Says of each answer whether it is right, and keeps the model of the disk. */
export class Verdict {
  readonly #model: DiskModel;
  readonly #pages: GuestPages;
  readonly #discarded: number;
  /** By page: bits of the sectors that the request may have been read to. */
  readonly #mayChange: Uint8Array;

  /** `discarded`: what a sector reads as after a discard, if not as before. */
  constructor(model: DiskModel, pages: GuestPages, discarded: number) {
    this.#discarded = discarded;
    this.#model = model;
    this.#pages = pages;
    this.#mayChange = new Uint8Array(pages.count);
  }

  /** What is wrong, in words, or undefined. Everything that the request has is still its own. */
  answered(sent: Sent, operation: number, status: number): string | undefined {
    const { meaning, other, raced } = sent;
    const wrong = this.#differs(sent, meaning, operation, status);
    if (!raced) {
      if (wrong === undefined) this.#carryOut(sent, meaning, status, 'done');
      return wrong;
    }
    const alsoWrong = this.#differs(sent, other, operation, status);
    if (wrong !== undefined && alsoWrong !== undefined) return `${wrong}; nor, as it also reads: ${alsoWrong}`;
    const sure = wrong !== undefined || alsoWrong !== undefined ? 'done' : 'maybe';
    if (wrong === undefined) this.#carryOut(sent, meaning, status, sure);
    if (alsoWrong === undefined) this.#carryOut(sent, other, status, sure);
    for (let i = 0; i < sent.pageCount; i++) this.#pages.fill(sent.pages[i]);
    return undefined;
  }

  /** The ring is gone, and nobody knows whether it was carried out. */
  abandoned(sent: Sent): void {
    this.#maybe(sent.meaning);
    if (sent.raced) this.#maybe(sent.other);
  }

  #maybe(meaning: Meaning): void {
    if ((meaning.may & May.okay) !== 0) this.#change(meaning, 'maybe');
  }

  #differs(sent: Sent, meaning: Meaning, operation: number, status: number): string | undefined {
    if (operation !== meaning.operation) return `operation ${operation}; expected ${meaning.operation}`;
    if ((bitOf(status) & meaning.may) === 0) return `status ${status}; expected ${nameMay(meaning.may)}`;
    if (sent.list >= 0 && !sent.raced && !this.#listIsIntact(sent)) return 'its list of segments was written to';
    const careful = sent.mutated || sent.raced || status !== BlkifStatus.okay;
    if (meaning.effect !== Effect.read) return this.#allIntact(sent);
    return careful ? this.#readWithCare(sent, meaning, status) : this.#read(meaning);
  }

  #listIsIntact({ list, listBytes }: Sent): boolean {
    return this.#pages.bytes[list].compare(listBytes) === 0;
  }

  #allIntact(sent: Sent): string | undefined {
    for (let i = 0; i < sent.pageCount; i++) {
      if (!this.#pages.intact(sent.pages[i], 0, PLACES)) return `page ${i} of it was written to`;
    }
    return undefined;
  }

  #read({ segments, page, first, last, sector }: Meaning): string | undefined {
    const pages = this.#pages;
    let at = sector;
    for (let i = 0; i < segments; i++) {
      const end = last[i] + 1;
      const count = end - first[i];
      if (first[i] > 0 && !pages.intact(page[i], 0, first[i])) return `page ${i} was written to before its segment`;
      if (end < PLACES && !pages.intact(page[i], end, PLACES - end))
        return `page ${i} was written to after its segment`;
      if (!this.#holds(page[i], first[i], at, count))
        return `wrong data in segment ${i}, sectors ${at} to ${at + count - 1}`;
      at += count;
    }
    return undefined;
  }

  #holds(page: number, first: number, sector: number, count: number): boolean {
    const { bytes, contents } = this.#pages;
    const to = page * PLACES + first;
    if (!this.#model.holds(bytes[page], first * SECTOR, sector, count, contents, to)) return false;
    for (let i = 0; i < count; i++) {
      if (contents[to + i] !== ANY) continue;
      this.#pages.fill(page);
      return true;
    }
    return true;
  }

  /** Of a read that was refused or failed each sector is as it was, or read. The same page may be in two segments. */
  #readWithCare(sent: Sent, meaning: Meaning, status: number): string | undefined {
    const pages = this.#pages;
    const { segments, page, first, last, sector, doubled } = meaning;
    for (let i = 0; i < segments; i++) {
      if (page[i] < 0 || pages.owner[page[i]] !== sent.number) continue;
      for (let place = first[i]; place <= last[i]; place++) this.#mayChange[page[i]] |= 1 << place;
    }
    let wrong: string | undefined;
    for (let i = 0; i < sent.pageCount; i++) {
      const one = sent.pages[i];
      for (let place = 0; place < PLACES; place++) {
        const may = (this.#mayChange[one] & (1 << place)) !== 0;
        if (!may && !pages.intact(one, place, 1)) wrong ??= `sector ${place} of page ${i} was written to`;
      }
      this.#mayChange[one] = 0;
    }
    let at = sector;
    for (let i = 0; i < segments && wrong === undefined && !doubled; i++) {
      const mine = page[i] >= 0 && pages.owner[page[i]] === sent.number;
      for (let place = first[i]; place <= last[i]; place++, at++) {
        if (!mine || (status !== BlkifStatus.okay && pages.intact(page[i], place, 1))) continue;
        if (!this.#model.mayHold(pages.bytes[page[i]], place * SECTOR, at))
          wrong = `wrong data in segment ${i}, sector ${at}`;
      }
    }
    if (wrong === undefined && !sent.raced) for (let i = 0; i < sent.pageCount; i++) pages.fill(sent.pages[i]);
    return wrong;
  }

  #carryOut(sent: Sent, meaning: Meaning, status: number, sure: 'done' | 'maybe'): void {
    if (status !== BlkifStatus.okay) {
      // Storage that fails may have done some of it.
      if (status === BlkifStatus.error && (meaning.may & May.okay) !== 0) this.#change(meaning, 'maybe');
      return;
    }
    const flushes = meaning.effect === Effect.flush || (meaning.effect === Effect.write && meaning.operation > 1);
    if (flushes && sure === 'done') this.#model.flushed(sent.change);
    this.#change(meaning, sure);
  }

  #change(meaning: Meaning, sure: 'done' | 'maybe'): void {
    const model = this.#model;
    const { contents } = this.#pages;
    const { effect, sector, sectors, segments, page, first, last, stable } = meaning;
    if (effect === Effect.discard) {
      model.newChange();
      for (let i = 0; i < sectors; i++) model.maybe(sector + i, this.#discarded);
    } else if (effect === Effect.write) {
      model.newChange();
      let at = sector;
      for (let i = 0; i < segments; i++) {
        for (let place = first[i]; place <= last[i]; place++, at++) {
          const content = contents[page[i] * PLACES + place];
          if (sure === 'maybe') model.maybe(at, content);
          else model.set(at, content);
          if (sure === 'done' && stable) model.setStable(at);
        }
      }
    }
  }
}

function nameMay(may: number): string {
  const names = [may & May.okay ? '0' : '', may & May.error ? '-1' : '', may & May.eopnotsupp ? '-2' : ''];
  return names.filter((name) => name !== '').join(' or ');
}
