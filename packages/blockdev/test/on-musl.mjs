// What `npm run test:native` runs on a Node for musl: both packages load their builds for musl, and read and write with them.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { allocateMemory, BlockOp, openFileImage } from '@xenpv/blockdev';
import { mapSharedFile } from '@xenpv/xen-sys';

assert.equal(process.report.getReport().header.glibcVersionRuntime, undefined, 'not a Node for musl');
const folder = mkdtempSync(join(tmpdir(), 'on-musl-'));
process.on('exit', () => rmSync(folder, { recursive: true }));
const path = join(folder, 'image');
const BYTES = 1 << 20;
const PIECE = 4096;
writeFileSync(path, new Uint8Array(BYTES).fill(7));

const shared = mapSharedFile(path, BYTES);
const engines = [];
for (const [index, engine] of ['threads', 'io_uring'].entries()) {
  const image = await openFileImage(path, { engine }).catch((error) => {
    if (error.code !== 'ERR_NO_IO_URING') throw error;
  });
  if (!image) continue;
  engines.push(engine);
  const queue = image.createQueue({ depth: 4, memory: allocateMemory(2 * PIECE) });
  const done = (op) =>
    new Promise((resolve) => {
      queue.onComplete((_tags, results) => resolve(results[0]));
      queue.push(op, 1, index * PIECE, PIECE, Float64Array.of(0, 0, PIECE), 1);
      queue.submit();
    });
  new Uint8Array(queue.memory).fill(index + 1, 0, PIECE);
  for (const op of [BlockOp.writeFua, BlockOp.flush, BlockOp.read])
    assert.ok((await done(op)) >= 0, `${engine}: ${op}`);
  await image.close();
  assert.equal(new Uint8Array(shared.buffer)[index * PIECE], index + 1, engine);
}
shared.close();

const loaded = readFileSync('/proc/self/maps', 'utf8').match(/[^/\n]+\.node$/gm);
assert.deepEqual([...new Set(loaded)].sort(), ['blockdev.musl.node', 'xen-sys.musl.node']);
console.log(`Node ${process.versions.node}, ${engines.join(' and ')}`);
