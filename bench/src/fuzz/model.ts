import type { Random } from './random.js';

export const SECTORS_PER_PAGE = 8;
const WORDS_PER_SECTOR = 128;
const UNKNOWN = 0xffffffff;
const WRITING = 255;
const MOST_READERS = 200;

/**
 * What a disk's sectors must hold, and which pages of it are in use: a request that changes pages has them alone, so that
 * what a reader must find is known. A sector's content follows from its number and its version; version 0 is zeroes.
 */
export class DiskModel {
  readonly pages: number;
  readonly #versions: Uint32Array;
  readonly #users: Uint8Array;
  #version = 0;

  /** `content`: what is on the disk now. */
  constructor(pages: number, content: 'zeroes' | 'unknown') {
    this.pages = pages;
    this.#versions = new Uint32Array(pages * SECTORS_PER_PAGE).fill(content === 'zeroes' ? 0 : UNKNOWN);
    this.#users = new Uint8Array(pages);
  }

  /** A range of `sectors` that may be read, or changed; its first sector, or -1 when none was found. Taken until `give`. */
  take(random: Random, sectors: number, how: 'read' | 'change'): number {
    const all = this.pages * SECTORS_PER_PAGE;
    for (let tries = 0; tries < 10; tries++) {
      const sector = random.below(all - sectors + 1);
      if (!this.#isFree(sector, sectors, how)) continue;
      for (let page = pageOf(sector); page <= pageOf(sector + sectors - 1); page++) {
        if (how === 'change') this.#users[page] = WRITING;
        else this.#users[page]++;
      }
      return sector;
    }
    return -1;
  }

  give(sector: number, sectors: number, how: 'read' | 'change'): void {
    for (let page = pageOf(sector); page <= pageOf(sector + sectors - 1); page++) {
      if (how === 'change') this.#users[page] = 0;
      else this.#users[page]--;
    }
  }

  #isFree(sector: number, sectors: number, how: 'read' | 'change'): boolean {
    for (let page = pageOf(sector); page <= pageOf(sector + sectors - 1); page++) {
      if (how === 'change' ? this.#users[page] !== 0 : this.#users[page] >= MOST_READERS) return false;
    }
    return true;
  }

  newVersion(): number {
    this.#version = (this.#version + 1) % UNKNOWN;
    return this.#version;
  }

  /** `version` undefined: nobody knows what is there now. */
  set(sector: number, sectors: number, version: number | undefined): void {
    this.#versions.fill(version ?? UNKNOWN, sector, sector + sectors);
  }

  /** Fills the place of a sector in a page with what `version` of it is. */
  fill(words: Int32Array, place: number, sector: number, version: number): void {
    words.fill(content(sector, version), place * WORDS_PER_SECTOR, (place + 1) * WORDS_PER_SECTOR);
  }

  /** Whether the place of a sector in a page holds what it must. */
  holds(words: Int32Array, place: number, sector: number): boolean {
    const version = this.#versions[sector];
    if (version === UNKNOWN) return true;
    const expected = content(sector, version);
    const at = place * WORDS_PER_SECTOR;
    for (let i = 0; i < WORDS_PER_SECTOR; i += 31) if (words[at + i] !== expected) return false;
    return words[at + WORDS_PER_SECTOR - 1] === expected;
  }
}

function pageOf(sector: number): number {
  return Math.floor(sector / SECTORS_PER_PAGE);
}

function content(sector: number, version: number): number {
  if (version === 0) return 0;
  return (Math.imul(sector + 1, 0x9e3779b1) ^ Math.imul(version, 0x85ebca77)) | 1;
}
