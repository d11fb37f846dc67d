import { getSystemErrorName } from 'node:util';
import { type BlockImage, openFileImage } from '@xenpv/blockdev';
import { BlockdError } from '../../../errors.js';
import { formatBytes, formatJson, formatTable } from '../../../status/format.js';
import { formatMicroseconds } from '../../../status/latency.js';
import { lookOf } from '../../../status/look.js';
import type { ReplayOptions } from './options.js';
import { type Outcome, type Played, Player } from './player.js';
import { REPLAYED, type Replayed, readTraceFile, TracedOperations, type TraceFile } from './trace-file.js';

/**
 * `xen-blockd trace replay`. Errors: ERR_USAGE, the file is no trace, or has what the image is not to be given; ERR_IMAGE,
 * the image cannot be opened, is in use, or is too short.
 */
export async function replayTrace(path: string, imagePath: string, options: ReplayOptions): Promise<void> {
  const file = await readTraceFile(path);
  const { overwrite = false, readsOnly = false, fast = false, speed, depth } = options;
  const operations = readsOnly ? onlyReads(file.operations) : file.operations;
  checkWrites(operations, imagePath, overwrite);
  const image = await openImage(imagePath, !overwrite || readsOnly);
  const ending = new AbortController();
  const interrupted = () => ending.abort();
  process.on('SIGINT', interrupted).on('SIGTERM', interrupted);
  try {
    checkSize(operations, image);
    const player = new Player(image, operations, { depth, speed: fast ? undefined : speed, signal: ending.signal });
    const played = await player.play();
    const report = reportOf(played, file, operations.count);
    process.stdout.write(options.json ? formatJson(report) : formatReport(report));
  } finally {
    process.off('SIGINT', interrupted).off('SIGTERM', interrupted);
    await image.close();
  }
}

function onlyReads(all: TracedOperations): TracedOperations {
  const reads = new TracedOperations();
  const read = REPLAYED.indexOf('read');
  for (let i = 0; i < all.count; i++) {
    if (all.kind[i] === read) reads.add(all.time[i], read, all.offset[i], all.length[i]);
  }
  return reads;
}

function checkWrites(operations: TracedOperations, image: string, overwrite: boolean): void {
  if (overwrite) return;
  const kinds = operations.kind.subarray(0, operations.count);
  const count = (name: Replayed) => kinds.reduce((sum, kind) => sum + (REPLAYED[kind] === name ? 1 : 0), 0);
  const [writes, discards, flushes] = [count('write'), count('discard'), count('flush')];
  if (writes + discards + flushes === 0) return;
  const has = `the trace has ${writes} writes, ${discards} discards and ${flushes} flushes`;
  const advice = `--reads-only leaves them out; --overwrite does them, and what ${image} has is lost`;
  throw new BlockdError('ERR_USAGE', 'replay', `${has}: ${advice}`);
}

async function openImage(path: string, readOnly: boolean) {
  try {
    return await openFileImage(path, { readOnly, lockFor: { owner: 'trace replay', name: 'xen-blockd trace replay' } });
  } catch (error) {
    throw new BlockdError('ERR_IMAGE', 'replay', (error as Error).message, { path, cause: error });
  }
}

interface ReplayReport {
  readonly operations: number;
  /** Of those, how many were not begun. */
  readonly left: number;
  readonly seconds: number;
  readonly latestMs: number;
  /** Of the trace. */
  readonly lost: number;
  readonly isWhole: boolean;
  readonly kinds: Readonly<Record<string, KindReport>>;
}

interface KindReport {
  readonly count: number;
  readonly bytes: number;
  readonly errors: Readonly<Record<string, number>>;
  readonly replayed: Times | undefined;
  /** In the trace. */
  readonly traced: Times | undefined;
}

/** Microseconds. */
interface Times {
  readonly p50: number;
  readonly p99: number;
  readonly most: number;
}

function checkSize({ count, offset, length }: TracedOperations, { size, description }: BlockImage): void {
  let end = 0;
  for (let i = 0; i < count; i++) end = Math.max(end, offset[i] + length[i]);
  if (end <= size) return;
  const message = `the trace reaches to byte ${end}, and ${description} has ${size}; replay it on one that is as long`;
  throw new BlockdError('ERR_IMAGE', 'replay', message);
}

function reportOf({ outcomes, took, latest }: Played, file: TraceFile, operations: number): ReplayReport {
  const done = REPLAYED.reduce((sum, name) => sum + outcomes[name].count, 0);
  const kinds = REPLAYED.filter((name) => outcomes[name].count > 0).map(
    (name) => [name, kindReport(outcomes[name], file.latencies[name])] as const,
  );
  return {
    operations,
    left: operations - done,
    seconds: Math.round(took) / 1000,
    latestMs: Math.round(latest),
    lost: file.lost,
    isWhole: file.isWhole,
    kinds: Object.fromEntries(kinds),
  };
}

function kindReport({ count, bytes, errors, latencies }: Outcome, traced: number[]): KindReport {
  const named = [...errors].map(([errno, times]) => [getSystemErrorName(-errno), times] as const);
  return { count, bytes, errors: Object.fromEntries(named), replayed: timesOf(latencies), traced: timesOf(traced) };
}

function timesOf(latencies: number[]): Times | undefined {
  if (latencies.length === 0) return undefined;
  const sorted = Float64Array.from(latencies).sort();
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  return { p50: at(0.5), p99: at(0.99), most: sorted[sorted.length - 1] };
}

const HEADER = ['', 'requests', 'bytes', 'p50', 'p99', 'most', 'traced p50', 'p99', 'most'];

function formatReport(report: ReplayReport): string {
  const { operations, left, seconds, latestMs, lost, isWhole, kinds } = report;
  const rows = Object.entries(kinds).map(([name, { count, bytes, replayed, traced }]) => [
    name,
    `${count}`,
    formatBytes(bytes),
    ...timeCells(replayed),
    ...timeCells(traced),
  ]);
  const notes = [
    `${operations - left} requests in ${seconds} s; the latest began ${latestMs} ms late`,
    ...(left > 0 ? [`${left} requests were not begun: it was interrupted`] : []),
    ...(lost > 0 ? [`the trace lacks ${lost} lines, which its writer had lost`] : []),
    ...(isWhole ? [] : ['the trace has no end: its writer was killed, or it is cut']),
    ...Object.entries(kinds).flatMap(([name, { errors }]) =>
      Object.entries(errors).map(([errno, times]) => `${name}: ${times} failed with ${errno}`),
    ),
  ];
  const look = lookOf(process.stdout);
  return `${formatTable([HEADER, ...rows], { look })}\n${notes.map((note) => `  ${note}\n`).join('')}`;
}

function timeCells(times: Times | undefined): string[] {
  if (!times) return ['-', '-', '-'];
  return [times.p50, times.p99, times.most].map(formatMicroseconds);
}
