import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { type BlockImage, BlockOp } from '../../block-image.js';
import { memoryImage } from '../../memory/image.js';
import { allocateMemory } from '../../queue/buffer.js';
import { type Misreport, misreportingImage } from '../misreporting.js';
import { QueueDriver } from '../queue-driver.js';
import { SIZE } from './bench.js';

const { EIO } = constants.errno;
const LENGTH = 8192;

type Lie = (length: number, result: number) => Misreport;

const LIES: Readonly<Record<string, Lie>> = {
  'too few': (length) => ({ results: [Math.max(1, length - 512)] }),
  'too many': (length) => ({ results: [length + 512] }),
  'a byte too many': (length) => ({ results: [length + 1] }),
  'no errno': () => ({ results: [-4096] }),
  'an errno of 31 bits': () => ({ results: [-(2 ** 31)] }),
};

const OPERATIONS = [BlockOp.read, BlockOp.write, BlockOp.writeFua, BlockOp.flush];

/** An image over another one believes no result of it that cannot be. */
export async function believesNoLie(over: (inner: BlockImage) => BlockImage): Promise<void> {
  for (const [name, lie] of Object.entries(LIES)) {
    for (const op of OPERATIONS) {
      const inner = memoryImage({ size: SIZE, sectorSize: 4096 });
      let lies = true;
      const image = over(
        misreportingImage(inner, ({ length, result }) => (lies && result >= 0 ? lie(length, result) : undefined)),
      );
      const driver = new QueueDriver(image.createQueue({ depth: 4, memory: allocateMemory(LENGTH) }));
      const [offset, bytes] = op === BlockOp.flush ? [0, 0] : [4096, LENGTH];
      const what = `operation ${op}, ${name}`;
      const honest = bytes;
      const result = await driver.run(op, offset, bytes);
      // One that did not ask the image below has nothing to fear.
      const asked = await driver.run(BlockOp.flush, 0, 0);
      assert.ok(result === -EIO || (result === honest && asked === -EIO), `${what}: ${result}`);
      lies = false;
      assert.equal(await driver.run(op, offset, bytes), honest, `${what}, then the truth`);
      await image.close();
    }
  }
}

/** What ends twice, or again when its number is another operation's, disturbs nobody. */
export async function standsRepeatedEnds(over: (inner: BlockImage) => BlockImage): Promise<void> {
  const inner = memoryImage({ data: new Uint8Array(SIZE).fill(9), sectorSize: 4096 });
  const image = over(misreportingImage(inner, ({ result }) => ({ results: [result, result], late: [result] })));
  const driver = new QueueDriver(image.createQueue({ depth: 4, memory: allocateMemory(2 * LENGTH) }));
  const bytes = new Uint8Array(driver.queue.memory);
  for (let round = 0; round < 50; round++) {
    bytes.fill(0);
    const lengths = round % 2 === 0 ? [LENGTH / 2, LENGTH] : [LENGTH, LENGTH / 2];
    const reads = lengths.map((length, i) => driver.push(BlockOp.read, 0, length, [[0, i * LENGTH, length]]));
    driver.queue.submit();
    assert.deepEqual(await Promise.all(reads), lengths, `round ${round}`);
    for (const [i, length] of lengths.entries()) {
      assert.ok(
        bytes.subarray(i * LENGTH, i * LENGTH + length).every((byte) => byte === 9),
        `round ${round}, read ${i}`,
      );
    }
  }
  await image.close();
}
