import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { BlockOp } from '../../block-image.js';
import { assertContent, type Bench, type EngineCase, MEMORY, SIZE } from './bench.js';

export const refusalCases: readonly EngineCase[] = [
  { name: 'answers bad operations with an errno and changes nothing', run: refusesBadOperations },
  { name: 'refuses changes of a read-only image', readOnly: true, run: refusesChanges },
];

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
