import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import { BlockOp, IOV_WORDS } from '../../block-image.js';
import { allocateMemory } from '../../queue/buffer.js';
import { QueueDriver } from '../queue-driver.js';
import { assertBytes, type Bench, DEPTH, type EngineCase } from './bench.js';

export const queueCases: readonly EngineCase[] = [
  { name: 'holds as many operations as its depth', run: holdsDepth },
  { name: 'completes outside of push and submit, also when polled', run: completesOutside },
  { name: 'takes operations from inside the listener', run: takesFromListener },
  { name: 'has queues that do not mix', run: separatesQueues },
  { name: 'waits in close for what is in flight', run: closesAfterwards },
];

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
