import type { Random } from '../program/random.js';

export const SECTOR = 512;
const WORDS = SECTOR / 4;
/** No version. */
const NONE = 0xffffffff;
/** The first word of every sector that was written. */
const MAGIC = 0x63726173;
const MOST_READERS = 200;

export type Use = 'read' | 'write' | 'discard';

/** A range to look for: its length, what its first sector is a multiple of, and where the disk ends. In sectors. */
export interface Wanted {
  readonly sectors: number;
  readonly unit: number;
  readonly end: number;
}

/** What a sector was found to hold, and what it might. */
export interface WrongSector {
  readonly sector: number;
  readonly found: string;
  readonly allowed: string;
}

/** What the sectors of a range might hold when a read of them began. */
export interface Expectation {
  readonly sector: number;
  readonly settled: Uint32Array;
  readonly unsettled: Uint32Array;
  readonly last: Uint32Array;
  readonly zero: Uint8Array;
  /** Of this life: whether a request was changing it. */
  readonly changed: Uint8Array;
}

/**
 * What each sector of a guest's disk may hold: the version that was acknowledged; another one while a write of it is in
 * flight, or when the guest died before the answer; zeroes after a discard. What was read once stays. It lies in shared
 * memory, so that it outlives the guest, which can be killed at any instant: every step leaves what may be true.
 *
 * A range is changed by one request at a time; any number may read it meanwhile.
 */
export class DiskModel {
  /** For another thread of the same guest's next life. */
  readonly memory: SharedArrayBuffer;
  readonly guest: number;
  /** Room for so many sectors. */
  readonly room: number;
  readonly #settled: Uint32Array;
  readonly #unsettled: Uint32Array;
  readonly #last: Uint32Array;
  readonly #zero: Uint8Array;
  /** Who uses a sector: its readers, and whether it is being changed. Of this life only. */
  readonly #readers: Uint8Array;
  readonly #changed: Uint8Array;

  private constructor(guest: number, room: number, memory: SharedArrayBuffer) {
    this.guest = guest;
    this.room = room;
    this.memory = memory;
    this.#settled = new Uint32Array(memory, 0, room);
    this.#unsettled = new Uint32Array(memory, 4 * room, room);
    this.#last = new Uint32Array(memory, 8 * room, room);
    this.#zero = new Uint8Array(memory, 12 * room, room);
    this.#readers = new Uint8Array(room);
    this.#changed = new Uint8Array(room);
  }

  /** A disk of zeroes that may become `room` sectors long. */
  static create(guest: number, room: number): DiskModel {
    const model = new DiskModel(guest, room, new SharedArrayBuffer(13 * room));
    model.#unsettled.fill(NONE);
    return model;
  }

  /** The same disk as another life of its guest sees it. */
  static of(guest: number, memory: SharedArrayBuffer): DiskModel {
    return new DiskModel(guest, memory.byteLength / 13, memory);
  }

  /** A range that may be read or changed, taken until `give`; its first sector, or -1 when none was found. */
  take(random: Random, { sectors, unit, end }: Wanted, how: Use): number {
    for (let tries = 0; tries < 10; tries++) {
      const sector = unit * random.below(Math.floor((end - sectors) / unit) + 1);
      if (!this.#isFree(sector, sectors, how)) continue;
      this.#use(sector, sectors, how);
      return sector;
    }
    return -1;
  }

  give(sector: number, sectors: number, how: Use): void {
    for (let at = sector; at < sector + sectors; at++) {
      if (how === 'read') this.#readers[at]--;
      else this.#changed[at] = 0;
    }
  }

  /** Takes a range for reading whoever else uses it. */
  share(sector: number, sectors: number): void {
    this.#use(sector, sectors, 'read');
  }

  /** A write begins: fills `data` with the next versions. */
  write(sector: number, data: Int32Array): void {
    for (let at = 0; at < data.length / WORDS; at++) {
      const version = this.#last[sector + at] + 1;
      fill(data, at * WORDS, this.guest, sector + at, version);
      this.#last[sector + at] = version;
      this.#unsettled[sector + at] = version;
    }
  }

  /** The write was acknowledged. */
  written(sector: number, sectors: number): void {
    for (let at = sector; at < sector + sectors; at++) {
      this.#settled[at] = this.#unsettled[at];
      this.#unsettled[at] = NONE;
      this.#zero[at] = 0;
    }
  }

  /** A discard begins: from now on there may be zeroes, or what was there before. */
  discard(sector: number, sectors: number): void {
    this.#zero.fill(1, sector, sector + sectors);
  }

  /** A read begins. */
  expect(sector: number, sectors: number): Expectation {
    const end = sector + sectors;
    return {
      sector,
      settled: this.#settled.slice(sector, end),
      unsettled: this.#unsettled.slice(sector, end),
      last: this.#last.slice(sector, end),
      zero: this.#zero.slice(sector, end),
      changed: this.#changed.slice(sector, end),
    };
  }

  /** A read ended with `data`: which sectors are wrong. What it found is what further reads must find. */
  check(expected: Expectation, data: Int32Array): WrongSector[] {
    const wrong: WrongSector[] = [];
    for (let i = 0; i < expected.settled.length; i++) {
      const sector = expected.sector + i;
      const version = versionOf(data, i * WORDS, this.guest, sector);
      if (version < 0 && this.#mayBeMixed(expected, i, data)) continue;
      if (version < 0 || !this.#mayHold(expected, i, version)) {
        const found = version < 0 ? foreign(data, i * WORDS) : `version ${version}`;
        wrong.push({ sector, found, allowed: this.#allowed(expected, i) });
      } else {
        this.#settle(expected, i, version);
      }
    }
    return wrong;
  }

  #mayHold({ sector, settled, unsettled, last, zero }: Expectation, i: number, version: number): boolean {
    if (version === settled[i] || version === unsettled[i]) return true;
    if (version === 0 && zero[i] === 1) return true;
    return version > last[i] && version <= this.#last[sector + i];
  }

  /**
   * While a write was in flight a read may find some of its words and some of those before it: no storage promises more,
   * and page caches do not give it. Each word must be one of the two's.
   */
  #mayBeMixed({ sector, settled, last, changed }: Expectation, i: number, data: Int32Array): boolean {
    const now = this.#last[sector + i];
    const first = changed[i] === 1 ? last[i] : last[i] + 1;
    if (first > now) return false;
    const versions = [settled[i], ...Array.from({ length: now - first + 1 }, (_, more) => first + more)];
    const contents = versions.map((version) => {
      const words = new Int32Array(WORDS);
      if (version > 0) fill(words, 0, this.guest, sector + i, version);
      return words;
    });
    return contents[0].every((_, word) => contents.some((content) => content[word] === data[i * WORDS + word]));
  }

  /** Nothing changed it since the read began, so that it can be this version only. */
  #settle({ sector, settled, unsettled, last }: Expectation, i: number, version: number): void {
    const at = sector + i;
    if (this.#changed[at] === 1 || this.#last[at] !== last[i]) return;
    if (this.#settled[at] !== settled[i] || this.#unsettled[at] !== unsettled[i]) return;
    this.#settled[at] = version;
    this.#unsettled[at] = NONE;
    this.#zero[at] = 0;
  }

  #allowed({ sector, settled, unsettled, last, zero }: Expectation, i: number): string {
    const now = this.#last[sector + i];
    const versions = [`version ${settled[i]}`];
    if (unsettled[i] !== NONE) versions.push(`version ${unsettled[i]}, not acknowledged`);
    if (zero[i] === 1) versions.push('zeroes, discarded');
    if (now > last[i]) versions.push(`up to version ${now}, written meanwhile`);
    return versions.join(' or ');
  }

  #isFree(sector: number, sectors: number, how: Use): boolean {
    for (let at = sector; at < sector + sectors; at++) {
      // A write in flight may be read, a discard not: there are no versions of zeroes.
      if (this.#changed[at] === 1 && (how !== 'read' || this.#zero[at] === 1)) return false;
      if (how === 'read' && this.#readers[at] >= MOST_READERS) return false;
      if (how === 'discard' && this.#readers[at] > 0) return false;
      // Another version would be one too many.
      if (how === 'write' && this.#unsettled[at] !== NONE) return false;
    }
    return true;
  }

  #use(sector: number, sectors: number, how: Use): void {
    for (let at = sector; at < sector + sectors; at++) {
      if (how === 'read') this.#readers[at]++;
      else this.#changed[at] = 1;
    }
  }
}

/** The words of a sector: whose it is, where, which version, and a hash of these to its end. */
function fill(words: Int32Array, at: number, guest: number, sector: number, version: number): void {
  words[at] = MAGIC;
  words[at + 1] = guest;
  words[at + 2] = sector;
  words[at + 3] = version;
  words.fill(hash(guest, sector, version), at + 4, at + WORDS);
}

/** The version that is there, 0 for zeroes, or -1 if it is none of this sector. */
function versionOf(words: Int32Array, at: number, guest: number, sector: number): number {
  if (words[at] === 0) return isFilled(words, at, 0) ? 0 : -1;
  if (words[at] !== MAGIC || words[at + 1] !== guest || words[at + 2] !== sector) return -1;
  const version = words[at + 3];
  return isFilled(words, at + 4, hash(guest, sector, version), WORDS - 4) ? version : -1;
}

function isFilled(words: Int32Array, at: number, value: number, count = WORDS): boolean {
  for (let i = at; i < at + count; i++) if (words[i] !== value) return false;
  return true;
}

function hash(guest: number, sector: number, version: number): number {
  return Math.imul(guest + 1, 0x27d4eb2f) ^ Math.imul(sector + 1, 0x9e3779b1) ^ Math.imul(version, 0x85ebca77);
}

function foreign(words: Int32Array, at: number): string {
  if (words[at] !== MAGIC) return `something else (${[...words.subarray(at, at + 4)].map(hex).join(' ')})`;
  const [, guest, sector, version] = words.subarray(at, at + 4);
  const whole = isFilled(words, at + 4, hash(guest, sector, version), WORDS - 4);
  return `${whole ? '' : 'parts of '}guest ${guest} sector ${sector} version ${version}`;
}

function hex(word: number): string {
  return (word >>> 0).toString(16).padStart(8, '0');
}
