import { setTimeout as sleep } from 'node:timers/promises';
import type { Blkfront } from '@xenpv/blkfront';
import type { Random } from '../program/random.js';
import type { GuestFigures, Kind } from './figures.js';
import { type DiskModel, SECTOR, type WrongSector } from './model.js';

const SECTORS_PER_PAGE = 8;
/** Pages that a request without indirect segments can have. */
const DIRECT_PAGES = 11;
const SCAN_SECTORS = 256;
const WEIGHTS: Record<Kind, number> = { read: 38, write: 34, flush: 6, flushWithData: 6, barrier: 4, discard: 12 };

export interface DiskLoadOptions {
  readonly disk: Blkfront;
  readonly model: DiskModel;
  readonly figures: GuestFigures;
  readonly random: Random;
  /** Operations in flight. */
  readonly depth: number;
  /** The longest pause of one that was answered, before the next. */
  readonly thinkMs: number;
  /** Told what must not be. */
  readonly failed: (problem: string) => void;
}

/** Uses a disk in every way at once, and compares all that it reads with what may be there. */
export class DiskLoad {
  readonly #options: DiskLoadOptions;
  readonly #began: number[] = [];
  readonly #signal = new AbortController();
  #done: Promise<void> | undefined;

  constructor(options: DiskLoadOptions) {
    this.#options = options;
  }

  /** Looks at the whole disk, then works until `stop`. */
  start(): void {
    this.#done ??= this.#run();
  }

  /** Resolves when all that was in flight has been answered. */
  async stop(): Promise<void> {
    this.#signal.abort();
    await this.#done;
  }

  /** Reads all of the disk. */
  async scan(): Promise<void> {
    const { disk, model } = this.#options;
    const end = Math.min(disk.size / SECTOR, model.room);
    for (let sector = 0; sector < end; sector += SCAN_SECTORS) {
      const sectors = Math.min(SCAN_SECTORS, end - sector);
      model.share(sector, sectors);
      await this.#timed('read', () => this.#read(sector, sectors));
    }
  }

  /** Tells the figures what is in flight. */
  report(): void {
    const { figures, disk } = this.#options;
    const waiting = this.#began.filter((began) => began > 0);
    const oldest = waiting.length === 0 ? 0 : performance.now() - Math.min(...waiting);
    figures.setInFlight(oldest, waiting.length);
    figures.sectors = disk.size / SECTOR;
  }

  async #run(): Promise<void> {
    await this.scan();
    await Promise.all(Array.from({ length: this.#options.depth }, (_, worker) => this.#work(worker)));
  }

  async #work(worker: number): Promise<void> {
    const { random, thinkMs } = this.#options;
    while (!this.#signal.signal.aborted) {
      await this.#operate(random.weighted(WEIGHTS), worker);
      await sleep(random.below(thinkMs + 1));
    }
  }

  async #operate(kind: Kind, worker: number): Promise<void> {
    const { disk, model, random } = this.#options;
    if (kind === 'discard' && !disk.features.discard) return;
    if (kind === 'barrier' && !disk.features.barrier) return;
    if (kind === 'flushWithData' && !disk.features.flush) return;
    if (kind === 'flush') return this.#timed(kind, () => disk.flush(), worker);
    const unit = disk.sectorSize / SECTOR;
    const end = Math.min(disk.size / SECTOR, model.room);
    const sectors = Math.max(unit, this.#length(kind) - (this.#length(kind) % unit));
    const use = kind === 'read' || kind === 'discard' ? kind : 'write';
    const sector = model.take(random, { sectors, unit, end }, use);
    if (sector < 0) return;
    if (kind === 'read') await this.#timed(kind, () => this.#read(sector, sectors), worker);
    else if (kind === 'discard') await this.#timed(kind, () => this.#discard(sector, sectors), worker);
    else await this.#timed(kind, () => this.#write(kind, sector, sectors), worker);
  }

  #length(kind: Kind): number {
    const { random, disk } = this.#options;
    const direct = DIRECT_PAGES * SECTORS_PER_PAGE;
    if (random.oneIn(4)) return random.from(1, SECTORS_PER_PAGE);
    if (kind === 'barrier' || kind === 'flushWithData' || random.oneIn(2)) return random.from(1, direct);
    return random.from(1, Math.max(direct, disk.maxSegments * SECTORS_PER_PAGE));
  }

  async #read(sector: number, sectors: number): Promise<void> {
    const { disk, model, figures } = this.#options;
    try {
      const expected = model.expect(sector, sectors);
      const data = await disk.read(sector * SECTOR, sectors * SECTOR);
      const wrong = model.check(expected, new Int32Array(data.buffer, data.byteOffset, data.byteLength / 4));
      figures.addVerified(data.byteLength);
      if (wrong.length > 0) this.#options.failed(describeWrong(`read of ${sectors} sectors at ${sector}`, wrong));
    } finally {
      model.give(sector, sectors, 'read');
    }
  }

  async #write(kind: 'write' | 'flushWithData' | 'barrier', sector: number, sectors: number): Promise<void> {
    const { disk, model } = this.#options;
    const mode = ({ write: 'plain', flushWithData: 'flush', barrier: 'barrier' } as const)[kind];
    const data = new Int32Array((sectors * SECTOR) / 4);
    model.write(sector, data);
    try {
      await disk.write(sector * SECTOR, new Uint8Array(data.buffer), { mode });
      model.written(sector, sectors);
    } finally {
      model.give(sector, sectors, 'write');
    }
  }

  async #discard(sector: number, sectors: number): Promise<void> {
    const { disk, model } = this.#options;
    model.discard(sector, sectors);
    try {
      await disk.discard(sector * SECTOR, sectors * SECTOR);
    } finally {
      model.give(sector, sectors, 'discard');
    }
  }

  async #timed(kind: Kind, operation: () => Promise<void>, worker = 0): Promise<void> {
    const began = performance.now();
    this.#began[worker] = began;
    try {
      await operation();
    } catch (error) {
      this.#options.failed(`${kind}: ${(error as Error).message}`);
      // A disk that refuses all is not asked as fast as it can refuse.
      await sleep(100);
    }
    this.#began[worker] = 0;
    this.#options.figures.count(kind, performance.now() - began);
  }
}

/** The first wrong sector, and how many there are. */
export function describeWrong(what: string, wrong: readonly WrongSector[]): string {
  const [{ sector, found, allowed }] = wrong;
  return `${what}: ${wrong.length} wrong; sector ${sector} has ${found}, and must have ${allowed}`;
}
