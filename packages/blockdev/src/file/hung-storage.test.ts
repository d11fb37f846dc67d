import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { needs } from '@xenpv/test-support';
import { ThrottledDevices } from '@xenpv/test-support/throttled-devices';
import { afterAll, expect } from 'vitest';
import { packageRoot } from '../package-root.js';
import { HeldDevice } from '../testing/held-device.js';
import { threadRing } from '../uring/thread-ring.js';
import type { FileImageOptions } from './options.js';

const MIB = 1 << 20;
const folder = mkdtempSync(join(tmpdir(), 'hung-storage-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function makeFile(name: string, bytes: number): string {
  const path = join(folder, name);
  writeFileSync(path, '');
  truncateSync(path, bytes);
  return path;
}

// A process of its own, which can be put behind the throttle. It has 100 requests in flight on a disk that hangs, writes,
// flushes and verifies another one, and says so; then it ends when the first disk has answered.
const PROGRAM = `
  const [, index, testing, hung, other, options] = process.argv;
  const { openFileImage, allocateMemory, BlockOp } = await import(index);
  const { QueueDriver } = await import(testing);
  const open = async (path, depth) => {
    const image = await openFileImage(path, JSON.parse(options));
    return new QueueDriver(image.createQueue({ depth, memory: allocateMemory(depth * 4096) }));
  };
  const [first, second] = [await open(hung, 100), await open(other, 32)];
  console.log('open');
  await new Promise((resolve) => process.stdin.once('data', resolve));
  // All kinds of calls, and each could take every thread there is.
  const operation = (i) => [BlockOp.write, BlockOp.flush, BlockOp.read, BlockOp.writeFua, BlockOp.discard][i % 5];
  const hanging = [];
  for (let i = 0; i < 100; i++) {
    const op = operation(i);
    const [at, bytes] = op === BlockOp.flush ? [0, 0] : [i * 8192, 4096];
    hanging.push(first.push(op, at, bytes, op <= BlockOp.writeFua ? [[0, i * 4096, 4096]] : []));
  }
  let answered = 0;
  for (const one of hanging) one.then(() => answered++);
  first.queue.submit();
  await new Promise((resolve) => setTimeout(resolve, 200));
  const bytes = new Uint8Array(second.queue.memory);
  let wrong = 0;
  for (let round = 1; round <= 20; round++) {
    bytes.fill(round);
    const all = (op) => {
      const done = Array.from({ length: 32 }, (_, i) => second.push(op, i * 4096, 4096, [[0, i * 4096, 4096]]));
      second.queue.submit();
      return Promise.all(done);
    };
    for (const result of await all(BlockOp.write)) if (result !== 4096) wrong++;
    if ((await second.run(BlockOp.flush, 0, 0)) !== 0) wrong++;
    if ((await second.run(BlockOp.writeZeroes, 64 * 4096, 4096)) !== 0) wrong++;
    bytes.fill(0);
    for (const result of await all(BlockOp.read)) if (result !== 4096) wrong++;
    if (!bytes.every((byte) => byte === round)) wrong++;
  }
  console.log('verified ' + JSON.stringify({ wrong, hanging: 100 - answered }));
  const results = await Promise.all(hanging);
  console.log('released ' + JSON.stringify(results.filter((result) => result < 0)));
  process.exit();
`;

const held = { name: 'a block device whose requests can be held back', met: () => !ThrottledDevices.missing };
const uring = { name: 'io_uring', met: () => typeof threadRing() !== 'string' };
const ways: [string, FileImageOptions][] = [
  ['io_uring, past the page cache', { engine: 'io_uring', direct: true }],
  ['io_uring, through the page cache', { engine: 'io_uring', direct: false }],
  ['threads, through the page cache', { engine: 'threads' }],
  ['threads, past the page cache', { engine: 'threads', direct: true }],
];

needs(held, uring).it.each(ways)(
  'a disk on hung storage leaves another one alone: %s',
  async (_name, options) => {
    const device = new HeldDevice(makeFile('hung', 8 * MIB));
    const urls = ['dist/index.js', 'dist/testing.js'].map((file) => new URL(file, packageRoot()).href);
    const args = [...urls, device.path, makeFile('other', MIB), JSON.stringify(options)];
    const child = spawn(process.execPath, ['--input-type=module', '-e', PROGRAM, ...args], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    const exited = once(child, 'exit');
    try {
      await expect.poll(() => output, { timeout: 10_000 }).toContain('open');
      device.add(child.pid);
      child.stdin.write('now\n');
      await expect.poll(() => output, { timeout: 15_000 }).toMatch(/verified \{"wrong":0,"hanging":\d\d+\}/);
      device.release();
      await expect.poll(() => output, { timeout: 15_000 }).toContain('released []');
    } finally {
      device.release();
      child.kill('SIGKILL');
      await exited;
      device[Symbol.dispose]();
    }
  },
  60_000,
);
