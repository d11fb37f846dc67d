import assert from 'node:assert/strict';
import { type BlockImage, BlockOp } from '../../block-image.js';
import { allocateMemory } from '../../queue/buffer.js';
import { QueueDriver } from '../queue-driver.js';

const BLOCK = 1 << 20;
const SIZE = 5 * 2 ** 30;
/** Around the largest numbers of 31 and 32 bits, and the whole image. */
const LENGTHS = [2 ** 31 - BLOCK, 2 ** 31, 2 ** 32 - BLOCK, 2 ** 32, 2 ** 32 + BLOCK, SIZE];

/** What a guest asks for that makes a file system on a large disk: one request for a range of any length. */
export async function rangesOfAnyLength(open: (size: number) => Promise<BlockImage>): Promise<void> {
  const image = await open(SIZE);
  const driver = new QueueDriver(image.createQueue({ depth: 4, memory: allocateMemory(BLOCK) }));
  const { discard, secureDiscard, writeZeroes } = image.features;
  const operations = [
    ...(discard ? [BlockOp.discard] : []),
    ...(secureDiscard ? [BlockOp.secureDiscard] : []),
    ...(writeZeroes ? [BlockOp.writeZeroes] : []),
  ];
  try {
    for (const operation of operations) {
      for (const length of LENGTHS) await clears(image, driver, operation, length);
    }
  } finally {
    // Zeroes take as much room as data: the next engine needs it.
    if (discard) await driver.run(BlockOp.discard, 0, SIZE);
    await driver.queue.close();
    await image.close();
  }
}

/** The range ends with 0, and what is behind it is as it was. */
async function clears({ size }: BlockImage, driver: QueueDriver, operation: BlockOp, length: number): Promise<void> {
  const what = `operation ${operation} of ${length} bytes`;
  const bytes = new Uint8Array(driver.queue.memory);
  const offset = size - length >= 2 * BLOCK ? BLOCK : 0;
  const behind = offset + length;
  bytes.fill(7);
  if (behind < size) assert.equal(await driver.run(BlockOp.write, behind, BLOCK), BLOCK, what);
  assert.equal(await driver.run(BlockOp.write, behind - BLOCK, BLOCK), BLOCK, what);
  assert.equal(await driver.run(operation, offset, length), 0, what);
  if (operation === BlockOp.writeZeroes) {
    assert.equal(await driver.run(BlockOp.read, behind - BLOCK, BLOCK), BLOCK, what);
    assert.ok(
      bytes.every((byte) => byte === 0),
      what,
    );
  }
  if (behind === size) return;
  bytes.fill(1);
  assert.equal(await driver.run(BlockOp.read, behind, BLOCK), BLOCK, what);
  // An engine that keeps nothing has zeroes.
  assert.ok([0, 7].includes(bytes[0]) && bytes.every((byte) => byte === bytes[0]), `${what} spares what is behind it`);
}
