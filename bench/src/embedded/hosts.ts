import { mkdtempSync, rmSync } from 'node:fs';
import { nullImage } from '@xenpv/blockdev';
import { median } from '../../../scripts/lib/median.mjs';
import { BenchHost } from './host.js';

const DISK_BYTES = 1 << 30;
const LOAD = { operation: 'read', blockSize: 4096, blocking: true } as const;
const WARM_UP_REQUESTS = 20_000;

/** Requests a second; medians of the rounds. */
export interface HostsCompared {
  /** The guest's memory is this process's own. */
  readonly own: number;
  /** It lies in files of a folder that other processes can join. */
  readonly folder: number;
  /** The median of the rounds' ratios, of the folder to the own. */
  readonly ratio: number;
}

/** 4 KiB reads of the null engine on both kinds of host in turns, the guest on another thread of this process. */
export async function compareHosts(options: {
  seconds: number;
  rounds: number;
  depth: number;
}): Promise<HostsCompared> {
  const directory = mkdtempSync('/dev/shm/xen-bench-');
  const image = () => nullImage({ size: DISK_BYTES });
  const [own, folder] = [await BenchHost.start(image), await BenchHost.start(image, directory)];
  const guests = await Promise.all([own, folder].map((host) => host.startGuest()));
  const { depth, rounds } = options;
  try {
    for (const guest of guests) await guest.connect(1, { ringPageOrder: 4, maxIndirectSegments: 0 });
    const job = { ...LOAD, depth };
    const warm = await Promise.all(guests.map((guest) => guest.load({ ...job, requests: WARM_UP_REQUESTS })));
    const requests = Math.ceil((WARM_UP_REQUESTS / Math.min(...warm.map(({ seconds }) => seconds))) * options.seconds);
    const rates: number[][] = [];
    for (let round = 0; round < rounds; round++) {
      const rate = async (index: number) => requests / (await guests[index].load({ ...job, requests })).seconds;
      // Each goes first in turn.
      const first = round % 2;
      const one = await rate(first);
      const other = await rate(1 - first);
      rates.push(first === 0 ? [one, other] : [other, one]);
    }
    return {
      own: median(rates.map(([rate]) => rate)),
      folder: median(rates.map(([, rate]) => rate)),
      ratio: median(rates.map(([a, b]) => b / a)),
    };
  } finally {
    for (const guest of guests) await guest.close();
    for (const host of [own, folder]) await host.close();
    rmSync(directory, { recursive: true, force: true });
  }
}
