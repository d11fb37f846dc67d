import assert from 'node:assert/strict';
import { type BlockImage, BlockOp, type BlockQueue } from '../../block-image.js';
import { allocateMemory } from '../../queue/buffer.js';
import { type Piece, QueueDriver } from '../queue-driver.js';

/** An engine to be tested. */
export interface EngineSubject {
  /** For the title of the tests: `engine NAME`. */
  readonly name: string;
  /** A new image with this content: a multiple of 1 MiB. The suite closes it. */
  open(content: Uint8Array, options: { readOnly: boolean }): Promise<BlockImage>;
  /** A new image of so many bytes, 4 GiB and more, that needs no room for what is not written: for ranges of any length. */
  openLarge?(size: number): Promise<BlockImage>;
  /** For an image over another one, which it owns: makes one, where nothing else comes between. */
  over?(inner: BlockImage): BlockImage;
  /** True for an engine that keeps nothing: reads are zeroes. */
  readonly forgetful?: boolean | undefined;
  /** True for images that stay on their thread: `share()` gives undefined. */
  readonly threadBound?: boolean | undefined;
}

/** Bytes of the images that the suite makes. */
export const SIZE = 1 << 20;
/** Bytes of a queue's memory. */
export const MEMORY = 1 << 20;
export const DEPTH = 16;

export interface Bench {
  readonly image: BlockImage;
  readonly queue: BlockQueue;
  readonly driver: QueueDriver;
  readonly bytes: Uint8Array;
  /** What the image should contain. */
  readonly expected: Uint8Array;
  readonly threadBound: boolean;
}

/** One test of the suite. */
export interface EngineCase {
  readonly name: string;
  readonly readOnly?: boolean;
  readonly run: (bench: Bench) => Promise<void>;
}

/** Opens an image of the subject with one queue, runs the case, and closes both. */
export async function runCase(subject: EngineSubject, { run, readOnly = false }: EngineCase): Promise<void> {
  const content = randomBytes(SIZE, 1);
  const image = await subject.open(content.slice(), { readOnly });
  const queue = image.createQueue({ depth: DEPTH, memory: allocateMemory(MEMORY) });
  const expected = subject.forgetful ? new ForgetfulBytes(SIZE) : content;
  const bytes = new Uint8Array(queue.memory);
  const { threadBound = false } = subject;
  try {
    await run({ image, queue, driver: new QueueDriver(queue), bytes, expected, threadBound });
  } finally {
    await queue.close();
    await image.close();
  }
}

/** What an engine that keeps nothing contains whatever is written to it. */
class ForgetfulBytes extends Uint8Array {
  override set(): void {}
  override fill(): this {
    return this;
  }
}

/** The same bytes for the same seed (xorshift32). */
export function randomBytes(count: number, seed: number): Uint8Array {
  const words = new Uint32Array(count / 4);
  const random = randomNumbers(seed);
  for (let i = 0; i < words.length; i++) words[i] = random();
  return new Uint8Array(words.buffer);
}

export function randomNumbers(seed: number): () => number {
  let state = seed | 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

export function assertBytes(actual: Uint8Array, expected: Uint8Array, what: string): void {
  const difference = Buffer.compare(actual, expected);
  if (difference === 0) return;
  const at = actual.findIndex((byte, i) => byte !== expected[i]);
  assert.fail(`${what}: byte ${at} is ${actual[at]}, not ${expected[at]}`);
}

export async function assertContent(driver: QueueDriver, bytes: Uint8Array, expected: Uint8Array): Promise<void> {
  assert.equal(await driver.run(BlockOp.read, 0, SIZE), SIZE);
  assertBytes(bytes, expected, 'content');
}

/** Pieces of `sector` bytes that are not adjacent in memory, last first. */
export function scattered(count: number, sector: number): Piece[] {
  return Array.from({ length: count }, (_, i) => [0, (count - 1 - i) * 2 * sector, sector] as const);
}

export function gather(bytes: Uint8Array, pieces: readonly Piece[]): Uint8Array {
  return Buffer.concat(pieces.map(([, at, count]) => bytes.subarray(at, at + count)));
}
