import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { setImmediate as turn } from 'node:timers/promises';
import { type BlockImage, BlockOp, type BlockQueue, IOV_WORDS } from '../block-image.js';
import { allocateMemory } from '../queue/buffer.js';
import { type Piece, QueueDriver } from './queue-driver.js';

/** The part of vitest, node:test, mocha or jest that the suite needs. */
export interface TestFramework {
  describe(name: string, body: () => void): unknown;
  it(name: string, body: () => Promise<void>): unknown;
}

/** An engine to be tested. */
export interface EngineSubject {
  readonly name: string;
  /** A new image with this content: a multiple of 1 MiB. The suite closes it. */
  open(content: Uint8Array, options: { readOnly: boolean }): Promise<BlockImage>;
  /** True for an engine that keeps nothing: reads are zeroes. */
  readonly forgetful?: boolean;
  /** True for an engine whose images other threads cannot open. */
  readonly unshared?: boolean;
}

/** Bytes of the images that the suite makes. */
const SIZE = 1 << 20;
const MEMORY = 1 << 20;
const DEPTH = 16;

interface Bench {
  readonly image: BlockImage;
  readonly queue: BlockQueue;
  readonly driver: QueueDriver;
  readonly bytes: Uint8Array;
  /** What the image should contain. */
  readonly expected: Uint8Array;
}

/** Registers the tests that every engine of BlockImage passes. */
export function testEngine({ describe, it }: TestFramework, subject: EngineSubject): void {
  const check = (name: string, body: (bench: Bench) => Promise<void>, readOnly = false) =>
    it(name, () => withBench(subject, readOnly, body));
  describe(`engine ${subject.name}`, () => {
    check('tells its geometry', tellsGeometry);
    check('reads through scatter lists', readsScattered);
    check('reads back what was written', writesAndReads);
    check('takes lists of more than a thousand pieces', takesLongLists);
    check('makes writes durable', flushes);
    check('answers bad operations with an errno and changes nothing', refusesBadOperations);
    check('refuses changes of a read-only image', refusesChanges, true);
    check('holds as many operations as its depth', holdsDepth);
    check('completes outside of push and submit, also when polled', completesOutside);
    check('takes operations from inside the listener', takesFromListener);
    check('gives zeroes for what is past the end', zeroesPastTheEnd);
    check('frees and zeroes ranges if it says so', freesRanges);
    check('uses added regions', usesRegions);
    check('has queues that do not mix', separatesQueues);
    check('behaves like an array of bytes', behavesLikeBytes);
    check('waits in close for what is in flight', closesAfterwards);
    if (subject.unshared) check('shares nothing', sharesNothing);
    else check('opens again from what it shares', sharesItself);
  });
}

async function withBench(
  subject: EngineSubject,
  readOnly: boolean,
  body: (bench: Bench) => Promise<void>,
): Promise<void> {
  const content = randomBytes(SIZE, 1);
  const image = await subject.open(content.slice(), { readOnly });
  const queue = image.createQueue({ depth: DEPTH, memory: allocateMemory(MEMORY) });
  const expected = subject.forgetful ? new ForgetfulBytes(SIZE) : content;
  try {
    await body({ image, queue, driver: new QueueDriver(queue), bytes: new Uint8Array(queue.memory), expected });
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
function randomBytes(count: number, seed: number): Uint8Array {
  const words = new Uint32Array(count / 4);
  const random = randomNumbers(seed);
  for (let i = 0; i < words.length; i++) words[i] = random();
  return new Uint8Array(words.buffer);
}

function randomNumbers(seed: number): () => number {
  let state = seed | 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

function assertBytes(actual: Uint8Array, expected: Uint8Array, what: string): void {
  const difference = Buffer.compare(actual, expected);
  if (difference === 0) return;
  const at = actual.findIndex((byte, i) => byte !== expected[i]);
  assert.fail(`${what}: byte ${at} is ${actual[at]}, not ${expected[at]}`);
}

/** Pieces of `sector` bytes that are not adjacent in memory, last first. */
function scattered(count: number, sector: number): Piece[] {
  return Array.from({ length: count }, (_, i) => [0, (count - 1 - i) * 2 * sector, sector] as const);
}

function gather(bytes: Uint8Array, pieces: readonly Piece[]): Uint8Array {
  return Buffer.concat(pieces.map(([, at, count]) => bytes.subarray(at, at + count)));
}

async function tellsGeometry({ image, queue }: Bench): Promise<void> {
  assert.equal(image.size, SIZE);
  assert.equal(await image.refresh(), SIZE);
  assert.ok(image.sectorSize >= 512 && Number.isInteger(Math.log2(image.sectorSize)));
  assert.ok(image.physicalSectorSize >= image.sectorSize);
  assert.equal(image.readOnly, false);
  assert.equal(queue.depth, DEPTH);
  assert.equal(queue.inFlight, 0);
  if (image.features.discard) assert.ok(image.features.discardGranularity >= image.sectorSize);
  else assert.equal(image.features.discardGranularity, 0);
}

async function readsScattered({ image, queue, driver, bytes, expected }: Bench): Promise<void> {
  const sector = image.sectorSize;
  const pieces = scattered(17, sector);
  const done = driver.push(BlockOp.read, 3 * sector, 17 * sector, pieces);
  queue.submit();
  assert.equal(await done, 17 * sector);
  assertBytes(gather(bytes, pieces), expected.subarray(3 * sector, 20 * sector), 'read');
}

async function writesAndReads({ image, queue, driver, bytes, expected }: Bench): Promise<void> {
  const sector = image.sectorSize;
  bytes.set(randomBytes(MEMORY, 2));
  const pieces = scattered(9, sector);
  const data = gather(bytes, pieces);
  const done = driver.push(BlockOp.write, 5 * sector, 9 * sector, pieces);
  queue.submit();
  assert.equal(await done, 9 * sector);
  expected.set(data, 5 * sector);
  await assertContent(driver, bytes, expected);
}

async function assertContent(driver: QueueDriver, bytes: Uint8Array, expected: Uint8Array): Promise<void> {
  assert.equal(await driver.run(BlockOp.read, 0, SIZE), SIZE);
  assertBytes(bytes, expected, 'content');
}

async function takesLongLists({ image, queue, driver, bytes, expected }: Bench): Promise<void> {
  const sector = image.sectorSize;
  const count = Math.min(1030, MEMORY / 2 / sector);
  const pieces = count === 1030 ? scattered(count, sector / 2) : scattered(count, sector);
  const length = gather(bytes, pieces).length;
  const done = driver.push(BlockOp.read, 0, length, pieces);
  queue.submit();
  assert.equal(await done, length);
  assertBytes(gather(bytes, pieces), expected.subarray(0, length), 'long list');
}

async function flushes({ image, driver, bytes, expected }: Bench): Promise<void> {
  const sector = image.sectorSize;
  bytes.fill(0xab, 0, sector);
  assert.equal(await driver.run(BlockOp.writeFua, 2 * sector, sector), sector);
  expected.fill(0xab, 2 * sector, 3 * sector);
  assert.equal(await driver.run(BlockOp.flush, 0, 0), 0);
  await assertContent(driver, bytes, expected);
}

async function refusesBadOperations({ image, queue, driver, bytes, expected }: Bench): Promise<void> {
  const { EINVAL, EFAULT, ENOSPC } = constants.errno;
  const sector = image.sectorSize;
  const bad: [number, Promise<number>][] = [
    [EINVAL, driver.push(BlockOp.write, 1, sector, [[0, 0, sector]])],
    [EINVAL, driver.push(BlockOp.write, -sector, sector, [[0, 0, sector]])],
    [EINVAL, driver.push(BlockOp.write, 0, sector - 1, [[0, 0, sector - 1]])],
    [EINVAL, driver.push(BlockOp.write, 0, 2 * sector, [[0, 0, sector]])],
    [EINVAL, driver.push(BlockOp.write, 0, sector)],
    [EINVAL, driver.push(BlockOp.write, 0, 0)],
    [EINVAL, driver.push(BlockOp.read, Number.NaN, sector, [[0, 0, sector]])],
    [EFAULT, driver.push(BlockOp.write, 0, sector, [[0, MEMORY - 1, sector]])],
    [EFAULT, driver.push(BlockOp.write, 0, sector, [[7, 0, sector]])],
    [EFAULT, driver.push(BlockOp.write, 0, sector, [[0, -1, sector]])],
    [EFAULT, driver.push(BlockOp.write, 0, sector, [[0, Number.NaN, sector]])],
    [EINVAL, driver.push(BlockOp.read, 0, 2 ** 31, [[0, 0, sector]])],
    [ENOSPC, driver.push(BlockOp.write, SIZE, sector, [[0, 0, sector]])],
    [ENOSPC, driver.push(BlockOp.writeFua, 2 ** 60, sector, [[0, 0, sector]])],
    [ENOSPC, driver.push(BlockOp.discard, SIZE - sector, 2 * sector)],
  ];
  queue.submit();
  for (const [i, [errno, result]] of bad.entries()) assert.equal(await result, -errno, `bad operation ${i}`);
  await assertContent(driver, bytes, expected);
}

async function refusesChanges({ image, driver, bytes, expected }: Bench): Promise<void> {
  const { EROFS } = constants.errno;
  const sector = image.sectorSize;
  assert.equal(image.readOnly, true);
  assert.equal(image.features.discard, false);
  assert.equal(await driver.run(BlockOp.write, 0, sector), -EROFS);
  assert.equal(await driver.run(BlockOp.writeFua, 0, sector), -EROFS);
  assert.equal(await driver.run(BlockOp.discard, 0, sector), -EROFS);
  assert.equal(await driver.run(BlockOp.writeZeroes, 0, sector), -EROFS);
  assert.equal(await driver.run(BlockOp.flush, 0, 0), 0);
  await assertContent(driver, bytes, expected);
}

async function holdsDepth({ image, queue, driver, bytes, expected }: Bench): Promise<void> {
  const sector = image.sectorSize;
  const reads = Array.from({ length: DEPTH }, (_, i) =>
    driver.push(BlockOp.read, i * sector, sector, [[0, i * sector, sector]]),
  );
  assert.equal(queue.inFlight, DEPTH);
  assert.equal(queue.push(BlockOp.flush, 0, 0, 0, new Float64Array(0), 0), false);
  queue.submit();
  for (const read of reads) assert.equal(await read, sector);
  assert.equal(queue.inFlight, 0);
  assertBytes(bytes.subarray(0, DEPTH * sector), expected.subarray(0, DEPTH * sector), 'reads');
  assert.equal(await driver.run(BlockOp.flush, 0, 0), 0);
}

async function completesOutside({ image, queue }: Bench): Promise<void> {
  const iov = Float64Array.of(0, 0, image.sectorSize);
  let inside = true;
  let delivered = 0;
  queue.onComplete((tags, results, count) => {
    assert.equal(inside, false);
    assert.deepEqual([...tags.subarray(0, count)], [-5]);
    assert.deepEqual([...results.subarray(0, count)], [image.sectorSize]);
    delivered += count;
  });
  assert.equal(queue.poll(), 0);
  queue.push(BlockOp.read, -5, 0, image.sectorSize, iov, 1);
  queue.submit();
  inside = false;
  let polled = 0;
  while (delivered === 0) {
    polled += queue.poll();
    if (delivered === 0) await turn();
  }
  assert.ok(polled === 0 || polled === 1);
  assert.equal(delivered, 1);
}

async function takesFromListener({ image, queue }: Bench): Promise<void> {
  const sector = image.sectorSize;
  const iov = Float64Array.of(0, 0, sector);
  let left = 500;
  await new Promise<void>((resolve) => {
    queue.onComplete((_tags, results, count) => {
      for (let i = 0; i < count; i++) {
        assert.equal(results[i], sector);
        if (left > 0) assert.ok(queue.push(BlockOp.read, left--, (left % 64) * sector, sector, iov, 1));
      }
      queue.submit();
      queue.poll();
      if (queue.inFlight === 0) resolve();
    });
    for (let i = 0; i < DEPTH; i++) queue.push(BlockOp.read, i, 0, sector, iov, 1);
    queue.submit();
  });
  assert.equal(left, 0);
}

async function zeroesPastTheEnd({ image, driver, bytes, expected }: Bench): Promise<void> {
  const sector = image.sectorSize;
  bytes.fill(1);
  assert.equal(await driver.run(BlockOp.read, SIZE - sector, 4 * sector), 4 * sector);
  assertBytes(bytes.subarray(0, sector), expected.subarray(SIZE - sector), 'last sector');
  assertBytes(bytes.subarray(sector, 4 * sector), new Uint8Array(3 * sector), 'beyond');
  bytes.fill(1);
  assert.equal(await driver.run(BlockOp.read, SIZE + 8 * sector, sector), sector);
  assertBytes(bytes.subarray(0, sector), new Uint8Array(sector), 'far beyond');
}

async function freesRanges({ image, driver, bytes, expected }: Bench): Promise<void> {
  const { discard, writeZeroes } = image.features;
  const { EOPNOTSUPP } = constants.errno;
  const granularity = Math.max(image.features.discardGranularity, image.sectorSize);
  const zeroed = await driver.run(BlockOp.writeZeroes, image.sectorSize, 9 * image.sectorSize);
  assert.equal(zeroed, writeZeroes ? 0 : -EOPNOTSUPP);
  if (writeZeroes) expected.fill(0, image.sectorSize, 10 * image.sectorSize);
  await assertContent(driver, bytes, expected);
  const discarded = await driver.run(BlockOp.discard, 16 * granularity, 4 * granularity);
  assert.equal(discarded, discard ? 0 : -EOPNOTSUPP);
  // What was discarded may read as anything; all else must be as it was.
  assert.equal(await driver.run(BlockOp.read, 0, SIZE), SIZE);
  bytes.set(expected.subarray(16 * granularity, 20 * granularity), 16 * granularity);
  assertBytes(bytes, expected, 'after a discard');
}

async function usesRegions({ image, queue, driver, expected }: Bench): Promise<void> {
  const sector = image.sectorSize;
  const memories = [allocateMemory(2 * sector), allocateMemory(2 * sector)];
  const regions = memories.map((memory) => queue.addRegion(memory));
  const pieces: Piece[] = [
    [regions[1], 0, sector],
    [regions[0], sector, sector],
  ];
  const done = driver.push(BlockOp.read, 0, 2 * sector, pieces);
  queue.submit();
  assert.equal(await done, 2 * sector);
  assertBytes(new Uint8Array(memories[1], 0, sector), expected.subarray(0, sector), 'first region');
  assertBytes(new Uint8Array(memories[0], sector, sector), expected.subarray(sector, 2 * sector), 'second region');
  queue.removeRegion(regions[0]);
  const refused = driver.push(BlockOp.read, 0, sector, [[regions[0], 0, sector]]);
  queue.submit();
  assert.equal(await refused, -constants.errno.EFAULT);
  assert.equal(queue.addRegion(memories[0]), regions[0]);
}

async function separatesQueues({ image, queue, driver, bytes, expected }: Bench): Promise<void> {
  const sector = image.sectorSize;
  const other = new QueueDriver(image.createQueue({ depth: 2, memory: allocateMemory(sector) }));
  const first = driver.push(BlockOp.read, 0, sector, [[0, 0, sector]]);
  const second = other.push(BlockOp.read, sector, sector, [[0, 0, sector]]);
  other.queue.submit();
  assert.equal(await second, sector);
  assert.equal(queue.inFlight, 1);
  queue.submit();
  assert.equal(await first, sector);
  assertBytes(bytes.subarray(0, sector), expected.subarray(0, sector), 'first queue');
  assertBytes(new Uint8Array(other.queue.memory, 0, sector), expected.subarray(sector, 2 * sector), 'second queue');
  await other.queue.close();
}

async function behavesLikeBytes({ image, queue, driver, bytes, expected }: Bench): Promise<void> {
  const sector = image.sectorSize;
  const random = randomNumbers(7);
  const share = Math.floor(SIZE / DEPTH / sector);
  for (let round = 0; round < 40; round++) {
    const done: Promise<void>[] = [];
    // Each operation of a round has its own part of the image and of the memory: the order must not matter.
    for (let i = 0; i < DEPTH; i++) {
      const sectors = 1 + (random() % Math.min(share, 16));
      const offset = (i * share + (random() % (share - sectors + 1))) * sector;
      done.push(random() % 2 ? write(offset, sectors * sector, i) : read(offset, sectors * sector, i));
    }
    queue.submit();
    await Promise.all(done);
  }
  await assertContent(driver, bytes, expected);

  async function write(offset: number, length: number, i: number): Promise<void> {
    const at = i * share * sector;
    const data = randomBytes(length, random());
    bytes.set(data, at);
    const result = driver.push(random() % 2 ? BlockOp.write : BlockOp.writeFua, offset, length, [[0, at, length]]);
    expected.set(data, offset);
    assert.equal(await result, length);
  }

  async function read(offset: number, length: number, i: number): Promise<void> {
    const at = i * share * sector;
    const before = expected.slice(offset, offset + length);
    assert.equal(await driver.push(BlockOp.read, offset, length, [[0, at, length]]), length);
    assertBytes(bytes.subarray(at, at + length), before, `read at ${offset}`);
  }
}

async function closesAfterwards({ image, queue, driver }: Bench): Promise<void> {
  const sector = image.sectorSize;
  const reads = Array.from({ length: DEPTH }, (_, i) =>
    driver.push(BlockOp.read, i * sector, sector, [[0, i * sector, sector]]),
  );
  let done = 0;
  for (const read of reads) read.then(() => done++);
  await Promise.all([queue.close(), queue.close()]);
  await turn();
  assert.equal(done, DEPTH);
  assert.throws(() => queue.push(BlockOp.read, 0, 0, sector, new Float64Array(IOV_WORDS), 1));
  await image.close();
  await image.close();
}

async function sharesNothing({ image }: Bench): Promise<void> {
  assert.equal(image.share(), undefined);
}

async function sharesItself({ image, expected }: Bench): Promise<void> {
  const shared = image.share();
  assert.ok(shared, 'other threads cannot open it');
  const { attachImage } = (await import(shared.module)) as { attachImage(data: unknown): Promise<BlockImage> };
  const other = await attachImage(structuredClone(shared.data));
  assert.equal(other.engine, image.engine);
  assert.equal(other.size, image.size);
  const driver = new QueueDriver(other.createQueue({ depth: 1, memory: allocateMemory(SIZE) }));
  await assertContent(driver, new Uint8Array(driver.queue.memory), expected);
  await other.close();
}
