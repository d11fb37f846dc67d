import { execFile } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { open } from 'node:fs/promises';
import { promisify } from 'node:util';
import { allocateMemory, BlockOp, type BlockQueue, openFileImage } from '@xenpv/blockdev';
import { median } from '../../../scripts/lib/median.mjs';

const run = promisify(execFile);
const BLOCK = 4096;
const DEPTH = 32;

export interface ReadOptions {
  /** Past the page cache. */
  readonly direct: boolean;
  readonly seconds: number;
}

/** What one engine did in one round. */
export interface Reads {
  readonly iops: number;
  /** Processor time of the reader, user and system, per read. */
  readonly cpuMicroseconds: number;
}

/** Both readers on the same file, one after the other, in each round. */
export interface PairedReads {
  readonly ours: readonly Reads[];
  readonly fio: readonly Reads[];
  /** The median of the rounds' ratios of reads per second. */
  readonly ratio: number;
}

/** Makes a file without holes, of random bytes that no file system can compress. */
export async function makeFile(path: string, bytes: number): Promise<void> {
  const file = await open(path, 'w');
  const chunk = randomFillSync(Buffer.alloc(4 << 20));
  for (let at = 0; at < bytes; at += chunk.length) await file.write(chunk, 0, Math.min(chunk.length, bytes - at));
  await file.sync();
  await file.close();
}

/** Random 4 KiB reads at depth 32, ours and fio's io_uring engine alternating. */
export async function pairReads(
  path: string,
  options: ReadOptions & { readonly rounds: number },
): Promise<PairedReads> {
  const ours: Reads[] = [];
  const fio: Reads[] = [];
  if (!options.direct) await warm(path);
  for (let round = 0; round < options.rounds; round++) {
    ours.push(await readWithOurs(path, options));
    fio.push(await readWithFio(path, options));
  }
  return { ours, fio, ratio: median(ours.map(({ iops }, i) => iops / fio[i].iops)) };
}

/** Brings the file into the page cache. */
async function warm(path: string): Promise<void> {
  const file = await open(path);
  const chunk = Buffer.alloc(4 << 20);
  while ((await file.read(chunk, 0, chunk.length)).bytesRead > 0);
  await file.close();
}

async function readWithOurs(path: string, { direct, seconds }: ReadOptions): Promise<Reads> {
  const image = await openFileImage(path, { readOnly: true, engine: 'io_uring', direct });
  const queue = image.createQueue({ depth: DEPTH, memory: allocateMemory(DEPTH * BLOCK) });
  await readRandomly(queue, image.size / BLOCK, 0.3);
  const cpu = process.cpuUsage();
  const start = process.hrtime.bigint();
  const reads = await readRandomly(queue, image.size / BLOCK, seconds);
  const elapsed = Number(process.hrtime.bigint() - start) / 1e9;
  const { user, system } = process.cpuUsage(cpu);
  await image.close();
  return { iops: reads / elapsed, cpuMicroseconds: (user + system) / reads };
}

/** Keeps the queue full for `seconds`; resolves with the number of reads. */
function readRandomly(queue: BlockQueue, blocks: number, seconds: number): Promise<number> {
  const iovs = Array.from({ length: DEPTH }, (_, i) => Float64Array.of(0, i * BLOCK, BLOCK));
  const end = performance.now() + seconds * 1000;
  let reads = 0;
  return new Promise((resolve, reject) => {
    const push = (tag: number) =>
      queue.push(BlockOp.read, tag, Math.floor(Math.random() * blocks) * BLOCK, BLOCK, iovs[tag], 1);
    queue.onComplete((tags, results, count) => {
      reads += count;
      const over = performance.now() >= end;
      for (let i = 0; i < count; i++) {
        if (results[i] !== BLOCK) reject(new Error(`a read gave ${results[i]}`));
        if (!over) push(tags[i]);
      }
      if (!over) queue.submit();
      else if (queue.inFlight === 0) resolve(reads);
    });
    for (let i = 0; i < DEPTH; i++) push(i);
    queue.submit();
  });
}

async function readWithFio(path: string, { direct, seconds }: ReadOptions): Promise<Reads> {
  const { stdout } = await run('fio', [
    '--name=reads',
    `--filename=${path}`,
    '--ioengine=io_uring',
    '--rw=randread',
    `--bs=${BLOCK}`,
    `--iodepth=${DEPTH}`,
    `--direct=${direct ? 1 : 0}`,
    // fio would drop the file from the page cache first.
    '--invalidate=0',
    '--readonly',
    '--time_based',
    `--runtime=${seconds}`,
    '--output-format=json',
  ]);
  const [job] = JSON.parse(stdout).jobs;
  const { total_ios: reads, iops, runtime } = job.read;
  return { iops, cpuMicroseconds: ((job.usr_cpu + job.sys_cpu) / 100) * ((runtime * 1000) / reads) };
}
