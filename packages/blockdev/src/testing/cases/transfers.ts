import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { BlockOp } from '../../block-image.js';
import { allocateMemory } from '../../queue/buffer.js';
import type { Piece } from '../queue-driver.js';
import {
  assertBytes,
  assertContent,
  type Bench,
  DEPTH,
  type EngineCase,
  gather,
  MEMORY,
  randomBytes,
  randomNumbers,
  SIZE,
  scattered,
} from './bench.js';

export const transferCases: readonly EngineCase[] = [
  { name: 'reads through scatter lists', run: readsScattered },
  { name: 'reads back what was written', run: writesAndReads },
  { name: 'takes lists of more than a thousand pieces', run: takesLongLists },
  { name: 'makes writes durable', run: flushes },
  { name: 'gives zeroes for what is past the end', run: zeroesPastTheEnd },
  { name: 'uses added regions', run: usesRegions },
  { name: 'behaves like an array of bytes', run: behavesLikeBytes },
];

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
