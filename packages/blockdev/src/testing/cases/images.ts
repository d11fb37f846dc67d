import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { type BlockImage, BlockOp } from '../../block-image.js';
import { allocateMemory } from '../../queue/buffer.js';
import { QueueDriver } from '../queue-driver.js';
import { assertBytes, assertContent, type Bench, DEPTH, type EngineCase, SIZE } from './bench.js';

export const imageCases: readonly EngineCase[] = [
  { name: 'tells its geometry', run: tellsGeometry },
  { name: 'zeroes ranges, or refuses to', run: zeroesRanges },
  { name: 'discards ranges, or refuses to', run: discardsRanges },
  { name: 'discards only whole granules', run: discardsWholeGranules },
  { name: 'opens again from what it shares', run: sharesItself },
];

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

async function zeroesRanges({ image, driver, bytes, expected }: Bench): Promise<void> {
  const { sectorSize, features } = image;
  const zeroed = await driver.run(BlockOp.writeZeroes, sectorSize, 9 * sectorSize);
  assert.equal(zeroed, features.writeZeroes ? 0 : -constants.errno.EOPNOTSUPP);
  if (features.writeZeroes) expected.fill(0, sectorSize, 10 * sectorSize);
  await assertContent(driver, bytes, expected);
}

async function discardsRanges({ image, driver, bytes, expected }: Bench): Promise<void> {
  const { discard, discardGranularity } = image.features;
  const granularity = Math.max(discardGranularity, image.sectorSize);
  const discarded = await driver.run(BlockOp.discard, 16 * granularity, 4 * granularity);
  assert.equal(discarded, discard ? 0 : -constants.errno.EOPNOTSUPP);
  // What was discarded may read as anything; all else must be as it was.
  assert.equal(await driver.run(BlockOp.read, 0, SIZE), SIZE);
  if (discard) bytes.set(expected.subarray(16 * granularity, 20 * granularity), 16 * granularity);
  assertBytes(bytes, expected, 'after a discard');
}

/** Also where a granule is in no range as a whole: nothing is left to do then. */
async function discardsWholeGranules({ image, driver, bytes, expected }: Bench): Promise<void> {
  const { discard, discardGranularity } = image.features;
  if (!discard) return;
  const sector = image.sectorSize;
  const granule = discardGranularity;
  const granules = [3, 5, 6, 9, 10, 11];
  for (const [start, end] of [
    [3 * granule + sector, 5 * granule - sector],
    [6 * granule - sector, 8 * granule + sector],
    [9 * granule + sector, 10 * granule],
    [11 * granule, 12 * granule - sector],
  ]) {
    if (start < end) assert.equal(await driver.run(BlockOp.discard, start, end - start), 0);
  }
  assert.equal(await driver.run(BlockOp.read, 0, SIZE), SIZE);
  // With granules of one sector there is more that was discarded.
  if (granule === sector) return;
  for (const at of [...granules, 8]) {
    const [from, to] = [at * granule, (at + 1) * granule];
    if (at === 6) continue;
    assertBytes(bytes.subarray(from, to), expected.subarray(from, to), `granule ${at} after discards of others`);
  }
}

async function sharesItself({ image, expected, threadBound }: Bench): Promise<void> {
  const shared = image.share();
  assert.equal(shared === undefined, threadBound);
  if (!shared) return;
  const { attachImage } = (await import(shared.module)) as { attachImage(data: unknown): Promise<BlockImage> };
  const other = await attachImage(structuredClone(shared.data));
  assert.equal(other.engine, image.engine);
  assert.equal(other.size, image.size);
  const driver = new QueueDriver(other.createQueue({ depth: 1, memory: allocateMemory(SIZE) }));
  await assertContent(driver, new Uint8Array(driver.queue.memory), expected);
  await other.close();
}
