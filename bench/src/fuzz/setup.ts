import type { AbiName } from '@xenpv/blkif';
import { Random } from './random.js';

export const ENGINES = ['io_uring', 'threads', 'memory'] as const;
export const TRANSFERS = ['copy', 'map', 'persistent'] as const;

/** What a round runs on. */
export interface Setup {
  readonly seed: number;
  readonly requests: number;
  readonly engine: (typeof ENGINES)[number];
  readonly direct: boolean;
  readonly transfer: (typeof TRANSFERS)[number];
  readonly memoryMiB: number;
  readonly queues: number;
  /** Worker threads of the backend. */
  readonly threads: number;
  readonly ringPageOrder: number;
  readonly abi: AbiName;
  readonly maxIndirectSegments: number;
  readonly persistentPages: number;
  readonly pollMicroseconds: number;
  /** Requests that the guest keeps in flight on each ring, at most. */
  readonly depth: number;
  /** Whether the storage ends operations late, in any order, and fails some. */
  readonly odd: boolean;
  /** Threads that do nothing but use the processor. */
  readonly burners: number;
  /** Whether another disk is connected, used and closed again and again. */
  readonly churn: boolean;
  /** Whether the disk's rings move from thread to thread, or are detached and attached again, all the time. */
  readonly moves: boolean;
}

/** What the command line fixes; the rest is drawn. */
export type Fixed = Partial<Omit<Setup, 'seed' | 'requests'>>;

/** The setup of a seed. What is fixed changes nothing else of it. */
export function drawSetup(seed: number, requests: number, fixed: Fixed): Setup {
  const random = new Random(seed);
  const drawn = {
    engine: random.pick(ENGINES),
    direct: random.oneIn(2),
    transfer: random.pick(TRANSFERS),
    memoryMiB: random.pick([2, 2, 4, 32]),
    queues: random.from(1, 4),
    threads: random.oneIn(3) ? random.from(1, 2) : 0,
    ringPageOrder: random.from(0, 4),
    abi: random.pick<AbiName>(['x86_64', 'x86_32', 'arm']),
    maxIndirectSegments: random.pick([0, 16, 64, 256]),
    persistentPages: random.pick([16, 300, 1056]),
    pollMicroseconds: random.pick([0, 0, 20]),
    depth: random.pick([1, 4, 32, 512]),
    odd: random.oneIn(3),
    burners: random.oneIn(3) ? random.from(1, 2) : 0,
    churn: random.oneIn(3),
    moves: random.oneIn(4),
  };
  const setup = { seed, requests, ...drawn, ...fixed };
  // A wrapper of images is one thread's.
  return setup.odd ? { ...setup, threads: 0 } : setup;
}
