/**
 * node dist/fairness.js [--quick] [--json FILE] [--only NEIGHBOUR] [--check]: what a guest notices of its neighbours on the same thread. It reads 4 KiB,
 * one at a time, from the null engine, alone and beside each kind of neighbour in turn. With --check the exit code is 1 if
 * a neighbour makes its median twice as long or longer, or its p99 5 ms longer or more.
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import type { Latency } from '@xenpv/blkfront';
import { memoryImage, nullImage, throttledImage } from '@xenpv/blockdev';
import { median } from '../../scripts/lib/median.mjs';
import { type BenchGuest, BenchHost } from './embedded/host.js';
import { StalledImage } from './fairness/stalled-image.js';
import type { StormOptions } from './threads/embedded-guest.js';

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    json: { type: 'string' },
    only: { type: 'string' },
    check: { type: 'boolean', default: false },
  },
});
const REQUESTS = values.quick ? 4000 : 20_000;
const ROUNDS = values.quick ? 3 : 5;
const DISK_BYTES = 1 << 30;
const LARGEST = 1024 * 1024;
/** What a neighbour may do to a guest stays below these. */
const MEDIAN_RATIO = 2;
const P99_MORE_US = 5000;

interface Neighbour {
  readonly name: string;
  readonly guests: number;
  readonly target: string;
  readonly storm: StormOptions;
}

const NEIGHBOURS: readonly Neighbour[] = [
  neighbour('storage that hangs, large writes', 'stalled', { operation: 'write', blockSize: LARGEST, depth: 40 }),
  neighbour('20 guests of such storage', 'stalled', { operation: 'write', blockSize: LARGEST, depth: 40 }, 20),
  neighbour('slow storage, large reads', 'slow', { operation: 'read', blockSize: LARGEST, depth: 40 }),
  neighbour('large reads', 'disk', { operation: 'read', blockSize: LARGEST, depth: 32 }),
  neighbour('large writes', 'disk', { operation: 'write', blockSize: LARGEST, depth: 32 }),
  neighbour('large reads of 4 guests', 'disk', { operation: 'read', blockSize: LARGEST, depth: 32 }, 4),
  neighbour('4 KiB reads', 'disk', { operation: 'read', blockSize: 4096, depth: 32 }),
  neighbour('discards', 'memory', { operation: 'discard', blockSize: 4096, depth: 32 }),
  neighbour('flushes', 'disk', { operation: 'flush', blockSize: 4096, depth: 32 }),
  neighbour('barriers', 'memory', { operation: 'barrier', blockSize: 4096, depth: 32 }),
];

function neighbour(name: string, target: string, storm: StormOptions, guests = 1): Neighbour {
  return { name, guests, target, storm };
}

function open(target: string) {
  const storage = nullImage({ size: DISK_BYTES });
  if (target === 'stalled') return new StalledImage(storage);
  if (target === 'slow') return throttledImage(storage, { bytesPerSecond: 20 << 20 });
  if (target === 'memory') return memoryImage({ size: 64 << 20 });
  return storage;
}

async function startVictim(host: BenchHost): Promise<BenchGuest> {
  const victim = await host.startGuest(32);
  await victim.connect(1, { ringPageOrder: 0 });
  await measure(victim, REQUESTS / 4);
  return victim;
}

async function measure(victim: BenchGuest, requests: number): Promise<Latency> {
  const job = { operation: 'read', blockSize: 4096, depth: 1, blocking: true, latency: true, random: true } as const;
  const { latency, errors } = await victim.load({ ...job, requests });
  if (latency === undefined || errors > 0) throw new Error(`${errors} requests of the victim failed`);
  return latency;
}

/** The victim's latencies alone and beside the neighbours, in turn. */
async function beside({ guests, target, storm }: Neighbour): Promise<Record<'alone' | 'beside', Latency>> {
  const rounds: Record<'alone' | 'beside', Latency>[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const host = await BenchHost.start(open);
    const victim = await startVictim(host);
    const alone = await measure(victim, REQUESTS);
    const neighbours: BenchGuest[] = [];
    for (let i = 0; i < guests; i++) {
      const guest = await host.startGuest(64);
      await guest.connect(1, { ringPageOrder: 2, maxIndirectSegments: 256, poolPages: 10_240 }, target);
      await guest.begin(storm);
      neighbours.push(guest);
    }
    rounds.push({ alone, beside: await measure(victim, REQUESTS) });
    await Promise.all(neighbours.map((guest) => guest.kill()));
    await victim.close();
    // What hangs keeps its disks: the host ends with the process.
  }
  return { alone: medians(rounds.map(({ alone }) => alone)), beside: medians(rounds.map((round) => round.beside)) };
}

function medians(latencies: readonly Latency[]): Latency {
  const of = (key: keyof Latency) => median(latencies.map((latency) => latency[key]));
  return { p50: of('p50'), p99: of('p99'), p999: of('p999'), max: of('max') };
}

const results: Record<string, number> = {};
const unfair: string[] = [];
const us = (value: number) => value.toFixed(0).padStart(8);
console.log(`${'neighbour'.padEnd(34)} p50 alone   beside  ratio  p99 alone   beside      max (us)`);
for (const one of NEIGHBOURS) {
  if (values.only !== undefined && values.only !== one.name) continue;
  const { alone, beside: with_ } = await beside(one);
  const ratio = with_.p50 / alone.p50;
  console.log(
    `${one.name.padEnd(34)} ${us(alone.p50)} ${us(with_.p50)} ${ratio.toFixed(2).padStart(6)}   ${us(alone.p99)} ${us(with_.p99)}  ${us(with_.max)}`,
  );
  if (ratio >= MEDIAN_RATIO || with_.p99 - alone.p99 >= P99_MORE_US) unfair.push(one.name);
  const key = one.name.replace(/\W+/g, '_');
  results[`fairness_${key}_p50_ratio`] = Number(ratio.toFixed(2));
  results[`fairness_${key}_p99_more_us`] = Math.round(with_.p99 - alone.p99);
}
if (values.json) writeFileSync(values.json, `${JSON.stringify(results)}\n`);
if (values.check && Object.keys(results).length === 0) unfair.push('no neighbour has that name');
if (values.check) {
  const told = unfair.length === 0 ? 'within' : `NOT within, beside: ${unfair.join('; ')}`;
  console.log(`the goal, a median below ${MEDIAN_RATIO} times and a p99 below ${P99_MORE_US} us more: ${told}`);
}
process.exit(values.check && unfair.length > 0 ? 1 : 0);
