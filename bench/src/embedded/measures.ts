import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { nullImage } from '@xenpv/blockdev';
import { median } from '../../../scripts/lib/median.mjs';
import { BenchHost, mainThreadSeconds } from './host.js';

const BLOCK = 4096;
const DISK_BYTES = 1 << 30;
/** Each disk has an event-channel handle of its own, and a domain 128 of them. */
const DISKS_OF_A_GUEST = 100;
/** The processor time of idle disks is counted over this long. */
const IDLE_MS = 2000;

/** Requests of 4 KiB through ring, grant copy and the null engine, the guest on another thread. */
export interface RingRate {
  /** By the clock, both threads at work. */
  readonly requestsPerSecond: number;
  /** For each second of processor time of the backend's thread. */
  readonly perCore: number;
  /** Requests that one look at the ring finds. */
  readonly batch: number;
}

export async function measureRing(options: { requests: number; rounds: number; depth: number }): Promise<RingRate> {
  const host = await BenchHost.start(() => nullImage({ size: DISK_BYTES }));
  const guest = await host.startGuest();
  await guest.connect(1, { ringPageOrder: 4, maxIndirectSegments: 0 });
  const { requests, depth } = options;
  const job = { operation: 'read', blockSize: BLOCK, requests, depth, blocking: true } as const;
  await guest.load({ ...job, requests: Math.ceil(requests / 4) });
  const rounds: { rate: number; perCore: number }[] = [];
  for (let round = 0; round < options.rounds; round++) {
    const before = mainThreadSeconds();
    const { seconds, errors } = await guest.load(job);
    if (errors > 0) throw new Error(`${errors} requests failed`);
    rounds.push({ rate: requests / seconds, perCore: requests / (mainThreadSeconds() - before) });
  }
  const [device] = host.backend.devices;
  const { read, passes } = device.statistics();
  await guest.close();
  await host.close();
  return {
    requestsPerSecond: median(rounds.map(({ rate }) => rate)),
    perCore: median(rounds.map(({ perCore }) => perCore)),
    batch: read.operations / passes,
  };
}

/** What connected disks without I/O take. */
export interface IdleDisks {
  /** Bytes of the backend's isolate for each disk, its nodes in the embedded xenstored included. */
  readonly bytes: number;
  readonly attachPerSecond: number;
  /** Processor time of all of them together. */
  readonly cpuPercent: number;
}

export async function measureIdle(disks: number): Promise<IdleDisks> {
  const host = await BenchHost.start(() => nullImage({ size: DISK_BYTES }));
  const guests = [];
  for (let left = disks; left > 0; left -= DISKS_OF_A_GUEST) guests.push(await host.startGuest(64));
  await guests[0].connect(10, { ringPageOrder: 0 });
  const before = isolateBytes();
  const began = performance.now();
  for (const [index, guest] of guests.entries()) {
    await guest.connect(Math.min(DISKS_OF_A_GUEST, disks - index * DISKS_OF_A_GUEST), { ringPageOrder: 0 });
  }
  const seconds = (performance.now() - began) / 1000;
  const bytes = (isolateBytes() - before) / disks;
  const cpuPercent = await mainThreadPercent(IDLE_MS);
  await Promise.all(guests.map((guest) => guest.close()));
  await host.close();
  return { bytes, attachPerSecond: disks / seconds, cpuPercent };
}

/** Share of a processor that this process's main thread takes during the next `milliseconds`. */
async function mainThreadPercent(milliseconds: number): Promise<number> {
  const cpu = mainThreadSeconds();
  const began = performance.now();
  await sleep(milliseconds);
  return ((mainThreadSeconds() - cpu) / ((performance.now() - began) / 1000)) * 100;
}

/** Bytes in this thread's isolate after a collection, typed arrays outside of the heap included. */
function isolateBytes(): number {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  collect();
  collect();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}
