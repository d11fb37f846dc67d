import { setTimeout as sleep } from 'node:timers/promises';

/**
 * A load that knows what must be on the disk. Each sector that it writes says where it belongs and how often it was
 * written; each read, and a last look at all of them, compares. What two operations in flight would share is never
 * written: each worker has blocks of its own.
 */
const SECTOR = 512;
const BLOCK = 4096;
const MAX_BLOCKS = 16;
const PROGRESS_MS = 200;
const RETRY_MS = 10;

/** The disk, as a guest has it. Lengths and offsets are in bytes. */
export interface LoadedDisk {
  readonly size: number;
  read(offset: number, length: number): Promise<Uint8Array>;
  write(offset: number, data: Uint8Array): Promise<void>;
  flush(): Promise<void>;
}

/** How hard, and until when. */
export interface LoadOptions {
  /** Operations in flight. */
  readonly depth: number;
  readonly signal: AbortSignal;
  /** Told now and then how many operations have ended, and how long the longest took. */
  readonly progress?: (operations: number, longestMs: number) => void;
}

/** What came of it. */
export interface LoadReport {
  readonly reads: number;
  readonly writes: number;
  readonly flushes: number;
  /** Operations that the disk refused, and the first reason. */
  readonly errors: number;
  readonly firstError: string | undefined;
  /** Sectors that were not what they had to be, and where the first was, in bytes. */
  readonly wrong: number;
  readonly firstWrong: number | undefined;
  /** The longest operation, in milliseconds: what a restart of the daemon looks like from here. */
  readonly longestMs: number;
}

/** Overwrites and reads blocks at random until the signal, then reads all that it wrote. Never rejects for the disk's sake. */
export async function verifiedLoad(disk: LoadedDisk, options: LoadOptions): Promise<LoadReport> {
  const load = new VerifiedLoad(disk, options);
  await Promise.all(Array.from({ length: options.depth }, (_, worker) => load.work(worker)));
  await load.readAll();
  return load.report();
}

class VerifiedLoad {
  readonly #disk: LoadedDisk;
  readonly #options: LoadOptions;
  /** How often each block was written; a block whose write failed holds either content. */
  readonly #versions: Uint32Array;
  readonly #uncertain = new Set<number>();
  #reads = 0;
  #writes = 0;
  #flushes = 0;
  #errors = 0;
  #firstError: string | undefined;
  #wrong = 0;
  #firstWrong: number | undefined;
  #longestMs = 0;
  #toldAt = 0;

  constructor(disk: LoadedDisk, options: LoadOptions) {
    this.#disk = disk;
    this.#options = options;
    this.#versions = new Uint32Array(Math.floor(disk.size / BLOCK));
  }

  async work(worker: number): Promise<void> {
    const share = Math.floor(this.#versions.length / this.#options.depth);
    const first = worker * share;
    while (!this.#options.signal.aborted && share > 0) {
      const count = Math.min(share, 1 + Math.floor(Math.random() * MAX_BLOCKS));
      const block = first + Math.floor(Math.random() * (share - count + 1));
      const chance = Math.random();
      if (chance < 0.5) await this.#write(block, count);
      else if (chance < 0.95) await this.#read(block, count);
      else await this.#flush();
    }
  }

  async readAll(): Promise<void> {
    for (let block = 0; block < this.#versions.length; block += MAX_BLOCKS) {
      const count = Math.min(MAX_BLOCKS, this.#versions.length - block);
      if (this.#versions.subarray(block, block + count).some((version) => version > 0)) await this.#read(block, count);
    }
  }

  report(): LoadReport {
    return {
      reads: this.#reads,
      writes: this.#writes,
      flushes: this.#flushes,
      errors: this.#errors,
      firstError: this.#firstError,
      wrong: this.#wrong,
      firstWrong: this.#firstWrong,
      longestMs: this.#longestMs,
    };
  }

  async #write(block: number, count: number): Promise<void> {
    const data = Buffer.alloc(count * BLOCK);
    for (let i = 0; i < count; i++) {
      const version = this.#versions[block + i] + 1;
      for (let at = i * BLOCK; at < (i + 1) * BLOCK; at += SECTOR) stamp(data, at, block * BLOCK + at, version);
    }
    const done = await this.#timed(() => this.#disk.write(block * BLOCK, data));
    for (let i = block; i < block + count; i++) {
      this.#versions[i]++;
      if (done) this.#uncertain.delete(i);
      else this.#uncertain.add(i);
    }
    this.#writes++;
  }

  async #read(block: number, count: number): Promise<void> {
    let data: Uint8Array | undefined;
    const read = async () => {
      data = await this.#disk.read(block * BLOCK, count * BLOCK);
    };
    if ((await this.#timed(read)) && data !== undefined) this.#compare(block, Buffer.from(data));
    this.#reads++;
  }

  async #flush(): Promise<void> {
    await this.#timed(() => this.#disk.flush());
    this.#flushes++;
  }

  #compare(first: number, data: Buffer): void {
    for (let at = 0; at < data.length; at += SECTOR) {
      const block = first + Math.floor(at / BLOCK);
      const version = this.#versions[block];
      if (version === 0 || this.#uncertain.has(block)) continue;
      if (isStamped(data, at, first * BLOCK + at, version)) continue;
      this.#wrong++;
      this.#firstWrong ??= first * BLOCK + at;
    }
  }

  /** Whether the operation succeeded. */
  async #timed(operation: () => Promise<void>): Promise<boolean> {
    const began = performance.now();
    try {
      await operation();
      return true;
    } catch (error) {
      this.#errors++;
      this.#firstError ??= error instanceof Error ? error.message : String(error);
      // A disk that is gone refuses at once: others have their turn all the same.
      await sleep(RETRY_MS);
      return false;
    } finally {
      this.#ended(began);
    }
  }

  #ended(began: number): void {
    const now = performance.now();
    this.#longestMs = Math.max(this.#longestMs, now - began);
    if (now - this.#toldAt < PROGRESS_MS) return;
    this.#toldAt = now;
    this.#options.progress?.(this.#reads + this.#writes + this.#flushes, this.#longestMs);
  }
}

/** The sector's place and version, and every byte after them from these two. */
function stamp(data: Buffer, at: number, offset: number, version: number): void {
  data.fill((offset / SECTOR + version) & 0xff, at, at + SECTOR);
  data.writeDoubleLE(offset, at);
  data.writeUInt32LE(version, at + 8);
}

const EXPECTED = Buffer.alloc(SECTOR);

function isStamped(data: Buffer, at: number, offset: number, version: number): boolean {
  stamp(EXPECTED, 0, offset, version);
  return data.compare(EXPECTED, 0, SECTOR, at, at + SECTOR) === 0;
}
