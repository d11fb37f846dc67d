import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { nullImage, openFileImage } from '@xenpv/blockdev';
import { median } from '../../scripts/lib/median.mjs';
import { BenchHost, mainThreadSeconds } from './embedded-host.js';
import { readOverNbd } from './nbd-reads.js';

const BLOCK = 4096;
const DISK_BYTES = 1 << 30;

/** Requests of 4 KiB through ring, grant copy and the null engine, the guest on another thread. */
export interface RingRate {
  /** As it went, both threads at work. */
  readonly requestsPerSecond: number;
  /** For each second of processor time of the backend's thread. */
  readonly perCore: number;
  /** Requests that one look at the ring finds. */
  readonly batch: number;
}

export async function measureRing(options: { requests: number; rounds: number; depth?: number }): Promise<RingRate> {
  const host = await BenchHost.start(() => nullImage({ size: DISK_BYTES }));
  const guest = await host.startGuest();
  await guest.connect(1, { ringPageOrder: 4, maxIndirectSegments: 0 });
  const { requests, depth } = options;
  const job = { operation: 'read', blockSize: BLOCK, requests, blocking: true, ...(depth ? { depth } : {}) } as const;
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

/** Bytes of the backend's isolate for each connected disk without I/O, its nodes in the embedded xenstored included. */
export async function measureIdle(
  disks: number,
): Promise<{ bytes: number; attachPerSecond: number; cpuPercent: number }> {
  const host = await BenchHost.start(() => nullImage({ size: DISK_BYTES }));
  // Each disk has an event-channel handle of its own, and a domain 128.
  const perGuest = 100;
  const guests = [];
  for (let left = disks; left > 0; left -= perGuest) guests.push(await host.startGuest(64));
  await guests[0].connect(10, { ringPageOrder: 0 });
  const before = isolateBytes();
  const began = performance.now();
  for (const [index, guest] of guests.entries()) {
    await guest.connect(Math.min(perGuest, disks - index * perGuest), { ringPageOrder: 0 });
  }
  const seconds = (performance.now() - began) / 1000;
  const bytes = (isolateBytes() - before) / disks;
  const cpu = mainThreadSeconds();
  await new Promise((resolve) => setTimeout(resolve, 2000));
  const cpuPercent = ((mainThreadSeconds() - cpu) / 2) * 100;
  await Promise.all(guests.map((guest) => guest.close()));
  await host.close();
  return { bytes, attachPerSecond: disks / seconds, cpuPercent };
}

/** What this thread's isolate holds after a collection, typed arrays outside of the heap included. */
function isolateBytes(): number {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  collect();
  collect();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** Random 4 KiB reads at depth 32 of the same file: a guest through us, and fio through qemu-storage-daemon's NBD. */
export async function compareWithStorageDaemon(
  path: string,
  options: { seconds: number; rounds: number },
): Promise<{ ours: number; theirs: number; ratio: number }> {
  const directory = mkdtempSync(join(tmpdir(), 'bench-qsd-'));
  const socket = join(directory, 'nbd');
  const host = await BenchHost.start(() => openFileImage(path, { readOnly: true, direct: false }));
  const guest = await host.startGuest();
  await guest.connect(1, { ringPageOrder: 0 });
  const daemon = await startStorageDaemon(path, socket);
  try {
    const job = { operation: 'read', blockSize: BLOCK, depth: 32, random: true, blocking: true } as const;
    const warm = await guest.load({ ...job, requests: 20_000 });
    const requests = Math.ceil((20_000 / warm.seconds) * options.seconds);
    const rounds: { ours: number; theirs: number }[] = [];
    for (let round = 0; round < options.rounds; round++) {
      const { seconds } = await guest.load({ ...job, requests });
      rounds.push({ ours: requests / seconds, theirs: await readOverNbd(socket, options.seconds) });
    }
    return {
      ours: median(rounds.map(({ ours }) => ours)),
      theirs: median(rounds.map(({ theirs }) => theirs)),
      ratio: median(rounds.map(({ ours, theirs }) => ours / theirs)),
    };
  } finally {
    daemon.kill();
    await guest.close();
    await host.close();
    rmSync(directory, { recursive: true, force: true });
  }
}

async function startStorageDaemon(path: string, socket: string): Promise<ChildProcess> {
  const args = [
    ['--blockdev', `driver=file,node-name=file,filename=${path},read-only=on,aio=io_uring`],
    ['--nbd-server', `addr.type=unix,addr.path=${socket}`],
    ['--export', 'type=nbd,id=export,node-name=file,name=disk'],
  ];
  const daemon = spawn('qemu-storage-daemon', args.flat(), { stdio: 'ignore' });
  const ended = once(daemon, 'exit').then(() => Promise.reject(new Error('qemu-storage-daemon ended at once')));
  ended.catch(() => undefined);
  await Promise.race([ended, untilItListens(socket)]);
  return daemon;
}

async function untilItListens(socket: string): Promise<void> {
  const listens = () =>
    new Promise<boolean>((resolve) => {
      const attempt = createConnection(socket);
      attempt.once('connect', () => resolve(true)).once('error', () => resolve(false));
      attempt.once('connect', () => attempt.destroy());
    });
  while (!(await listens())) await new Promise((resolve) => setTimeout(resolve, 20));
}
