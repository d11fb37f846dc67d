import type { AbiName } from '@xenpv/blkif';
import { Random } from '../program/random.js';
import type { Frontend } from './guest-life.js';

export const STORAGES = ['io_uring', 'threads', 'qcow2', 'nbd', 'loop'] as const;
/** What is under a disk: a raw file by one of the engines, a qcow2 image, an NBD server, a slow loop device. */
export type Storage = (typeof STORAGES)[number];

/** A guest of a round. */
export interface GuestSetup {
  readonly storage: Storage;
  readonly frontend: Frontend;
  readonly depth: number;
  readonly thinkMs: number;
}

/** What a round is made of; all of it follows from the seed. */
export interface Setup {
  readonly seed: number;
  readonly engine: 'io_uring' | 'threads';
  readonly threads: number;
  readonly transfer: 'copy' | 'map' | 'persistent';
  readonly guests: readonly GuestSetup[];
}

/** The ways in which guests differ: each round has all of these once. */
const GUESTS: readonly { abi: AbiName; ringPageOrder: number; queues: number; indirect: number }[] = [
  { abi: 'x86_64', ringPageOrder: 0, queues: 1, indirect: 0 },
  { abi: 'x86_32', ringPageOrder: 4, queues: 4, indirect: 32 },
  { abi: 'arm', ringPageOrder: 0, queues: 4, indirect: 64 },
  { abi: 'x86_64', ringPageOrder: 4, queues: 1, indirect: 32 },
];

const POOL_PAGES = 320;

/** The setup of a round. */
export function drawSetup(seed: number, storages: readonly Storage[]): Setup {
  const random = new Random(seed);
  const engines = storages.filter((storage) => storage === 'io_uring' || storage === 'threads');
  const engine = random.pick(engines.length === 0 ? (['io_uring', 'threads'] as const) : engines) as Setup['engine'];
  const usable = storages.filter((storage) => storage === engine || !(engines as string[]).includes(storage));
  const transfer = random.pick(['copy', 'map', 'persistent'] as const);
  const guests = GUESTS.map(({ abi, ringPageOrder, queues, indirect }) => {
    const persistent = transfer === 'persistent' && random.oneIn(2);
    const negotiated = { abi, ringPageOrder, queues, persistent, maxIndirectSegments: indirect };
    return {
      storage: random.pick(usable),
      frontend: { vdev: 'xvda', poolPages: POOL_PAGES, ...negotiated },
      depth: random.pick([4, 8, 16]),
      thinkMs: random.pick([5, 20, 40]),
    };
  });
  return { seed, engine, threads: random.pick([0, 0, 0, 2]), transfer, guests };
}
