import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { type BlockImage, BlockOp } from '../block-image.js';
import { openFileImage } from '../file/image.js';
import { memoryImage } from '../memory/image.js';
import { allocateMemory } from '../queue/buffer.js';
import { threadRing } from '../uring/thread-ring.js';
import { rmwImage } from '../wrappers/rmw.js';
import { type Piece, QueueDriver } from './queue-driver.js';

const SECTOR = 512;
const SECTORS = 64;
const SIZE = SECTORS * SECTOR;

const folder = mkdtempSync(join(tmpdir(), 'blockdev-'));
afterAll(() => rmSync(folder, { recursive: true }));

function makeFile(): string {
  const path = join(folder, 'model.img');
  writeFileSync(path, new Uint8Array(SIZE));
  return path;
}

const hasRing = typeof threadRing() !== 'string';
const engines: [name: string, open: () => Promise<BlockImage>][] = [
  ['memory', async () => memoryImage({ size: SIZE })],
  ['smaller sectors', async () => rmwImage(memoryImage({ size: SIZE, sectorSize: 4096 }))],
  ['threads', () => openFileImage(makeFile(), { engine: 'threads' })],
  ['sync', () => openFileImage(makeFile(), { engine: 'sync' })],
  ...(hasRing
    ? ([
        ['io_uring', () => openFileImage(makeFile(), { engine: 'io_uring', direct: false })],
        ['io_uring direct', () => openFileImage(makeFile(), { engine: 'io_uring', direct: true })],
      ] as [string, () => Promise<BlockImage>][])
    : []),
];

/** An operation on some sectors, its data in pieces of these many sectors. */
interface Step {
  readonly op: BlockOp;
  readonly first: number;
  readonly pieces: readonly number[];
  readonly fill: number;
}

const step: fc.Arbitrary<Step> = fc.record({
  op: fc.constantFrom(BlockOp.read, BlockOp.write, BlockOp.writeFua, BlockOp.writeZeroes, BlockOp.flush),
  first: fc.nat({ max: SECTORS - 1 }),
  pieces: fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 5 }),
  fill: fc.integer({ min: 1, max: 255 }),
});

/** The step's data, spread over memory with gaps; sectors past the end of the disk are left out of it. */
function place({ first, pieces }: Step): { length: number; list: Piece[] } {
  const list: Piece[] = [];
  let sector = first;
  let at = SECTOR;
  for (const count of pieces) {
    const present = Math.min(count, SECTORS - sector);
    if (present > 0) list.push([0, at, present * SECTOR]);
    sector += present;
    at += (count + 1) * SECTOR;
  }
  return { length: (sector - first) * SECTOR, list };
}

describe.each(engines)('%s', (_name, open) => {
  test('agrees with an array of bytes, whatever is done to it', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const image = await open();
        const driver = new QueueDriver(image.createQueue({ depth: 4, memory: allocateMemory(64 * SECTOR) }));
        const bytes = new Uint8Array(driver.queue.memory);
        const model = new Uint8Array(SIZE);
        try {
          for (const each of steps) await perform(each, driver, bytes, model, image);
        } finally {
          await image.close();
          await driver.queue.close();
        }
      }),
      { numRuns: 60 },
    );
  });
});

async function perform(
  { op, first, pieces, fill }: Step,
  driver: QueueDriver,
  bytes: Uint8Array,
  model: Uint8Array,
  image: BlockImage,
): Promise<void> {
  const { length, list } = place({ op, first, pieces, fill });
  const offset = first * SECTOR;
  bytes.fill(fill);
  const moves = op <= BlockOp.writeFua;
  const done = driver.push(op, op === BlockOp.flush ? 0 : offset, op === BlockOp.flush ? 0 : length, moves ? list : []);
  driver.queue.submit();
  const result = await done;
  if (op === BlockOp.writeZeroes && !image.features.writeZeroes) {
    expect(result).toBeLessThan(0);
    return;
  }
  expect(result).toBe(moves ? length : 0);
  if (op === BlockOp.write || op === BlockOp.writeFua) model.fill(fill, offset, offset + length);
  if (op === BlockOp.writeZeroes) model.fill(0, offset, offset + length);
  if (op !== BlockOp.read) return;
  let from = offset;
  for (const [, at, count] of list) {
    expect(Buffer.compare(bytes.subarray(at, at + count), model.subarray(from, from + count))).toBe(0);
    from += count;
  }
}
