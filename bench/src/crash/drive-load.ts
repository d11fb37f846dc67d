import { setTimeout as sleep } from 'node:timers/promises';
import type { Blkfront } from '@xenpv/blkfront';
import type { Random } from '../program/random.js';
import type { GuestFigures } from './figures.js';
import { SECTOR } from './model.js';

const SECTORS = 64;

/** Which media a drive may have: the one that was put in, and while it is changed the one before. In shared memory. */
export class Media {
  readonly memory: SharedArrayBuffer;
  readonly #words: Int32Array;

  constructor(memory = new SharedArrayBuffer(12)) {
    this.memory = memory;
    this.#words = new Int32Array(memory);
  }

  /** Medium `next` is going to be put in. */
  begin(next: number): void {
    Atomics.store(this.#words, 1, Atomics.load(this.#words, 0));
    Atomics.store(this.#words, 0, next);
  }

  /** The guest has seen it: nobody may see the other one any more. */
  end(): void {
    Atomics.store(this.#words, 1, Atomics.load(this.#words, 0));
  }

  get allowed(): readonly number[] {
    return [Atomics.load(this.#words, 0), Atomics.load(this.#words, 1)];
  }

  get seen(): number {
    return Atomics.load(this.#words, 2);
  }

  set seen(medium: number) {
    Atomics.store(this.#words, 2, medium);
  }
}

/** The content of a medium: words that tell its number and the sector. */
export function mediumContent(medium: number, sectors: number): Uint8Array {
  const words = new Int32Array((sectors * SECTOR) / 4);
  for (let sector = 0; sector < sectors; sector++) {
    words.fill(wordOf(medium, sector), (sector * SECTOR) / 4, ((sector + 1) * SECTOR) / 4);
  }
  return new Uint8Array(words.buffer);
}

/** Reads a drive, one request after the other, and compares it with the media that may be in it. */
export class DriveLoad {
  readonly #disk: Blkfront;
  readonly #media: Media;
  readonly #figures: GuestFigures;
  readonly #random: Random;
  readonly #failed: (problem: string) => void;
  #began = 0;
  #stopped = false;
  #done: Promise<void> | undefined;

  constructor(options: {
    readonly disk: Blkfront;
    readonly media: Media;
    readonly figures: GuestFigures;
    readonly random: Random;
    readonly failed: (problem: string) => void;
  }) {
    this.#disk = options.disk;
    this.#media = options.media;
    this.#figures = options.figures;
    this.#random = options.random;
    this.#failed = options.failed;
  }

  start(): void {
    this.#done ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#done;
  }

  async scan(): Promise<void> {}

  report(): void {
    this.#figures.setInFlight(this.#began === 0 ? 0 : performance.now() - this.#began, this.#began === 0 ? 0 : 1);
    this.#figures.sectors = this.#disk.size / SECTOR;
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      this.#began = performance.now();
      await this.#read().catch(async (error) => {
        this.#failed(`read of the drive: ${(error as Error).message}`);
        await sleep(100);
      });
      this.#figures.count('read', performance.now() - this.#began);
      this.#began = 0;
      await sleep(this.#random.below(10));
    }
  }

  async #read(): Promise<void> {
    const sector = 4 * this.#random.below((this.#disk.size / SECTOR - SECTORS) / 4);
    const before = this.#media.allowed;
    const data = await this.#disk.read(sector * SECTOR, SECTORS * SECTOR);
    const words = new Int32Array(data.buffer, data.byteOffset, data.byteLength / 4);
    const allowed = [...before, ...this.#media.allowed];
    const medium = allowed.find((number) => holds(words, sector, number));
    this.#figures.addVerified(data.byteLength);
    if (medium === undefined) this.#failed(`the drive at sector ${sector} holds no medium of ${allowed}`);
    else this.#media.seen = medium;
  }
}

function holds(words: Int32Array, sector: number, medium: number): boolean {
  for (let i = 0; i < words.length; i++) {
    if (words[i] !== wordOf(medium, sector + Math.floor((i * 4) / SECTOR))) return false;
  }
  return true;
}

function wordOf(medium: number, sector: number): number {
  return Math.imul(medium + 1, 0x01000193) ^ Math.imul(sector + 1, 0x9e3779b1);
}
