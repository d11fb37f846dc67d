import { Random } from '../../program/random.js';
import { type GuestPlan, LIFE_ENDS, type LifeEnd } from '../guest/plan.js';
import { ANY } from '../oracle/contents.js';

export const ENGINES = ['memory', 'io_uring', 'threads', 'power-cut', 'nbd'] as const;
export const TRANSFERS = ['copy', 'map', 'persistent'] as const;

/** What a round runs on. */
export interface Setup {
  readonly seed: number;
  readonly requests: number;
  readonly engine: (typeof ENGINES)[number];
  readonly direct: boolean;
  /** Of memory: bytes; and whether guests are told, or parts of sectors are read and written back. */
  readonly sectorSize: 512 | 4096;
  readonly sectorPolicy: 512 | 'image';
  readonly transfer: (typeof TRANSFERS)[number];
  readonly memoryMiB: number;
  /** Hostile guests, besides the victim. */
  readonly guests: number;
  /** Connections of each hostile guest, one after the other. */
  readonly lives: number;
  readonly queues: number;
  /** Worker threads of the backend. */
  readonly threads: number;
  /** Threads of guests: 0, all on the backend's own, or 1, and one for the victim. */
  readonly guestThreads: number;
  readonly maxIndirectSegments: number;
  readonly persistentPages: number;
  readonly pollMicroseconds: number;
  /** Requests that a hostile guest keeps in flight on each ring. */
  readonly depth: number;
  /** Whether the storage ends operations late, in any order, hangs at times, fails some, and answers some wrongly. */
  readonly odd: boolean;
  /** Whether some operations of the storage are answered seconds later, for which nobody waits. */
  readonly hangs: boolean;
  /** Whether another thread exchanges words of requests after they were sent. */
  readonly races: boolean;
  /** Whether guests write nonsense to what is the backend's in the headers of rings. */
  readonly scribbles: boolean;
  /** Threads that do nothing but use the processor. */
  readonly burners: number;
  /** Whether rings move from thread to thread, or are detached and attached again, all the time. */
  readonly moves: boolean;
  /** Whether another backend takes over from time to time. */
  readonly takeOvers: boolean;
  readonly ends: readonly LifeEnd[];
  readonly patienceSeconds: number;
  /** What the victim's p99 must be below, on a machine that nobody else uses. */
  readonly victimMs: number;
}

/** What the command line fixes; the rest is drawn. */
export type Fixed = Partial<Omit<Setup, 'seed' | 'requests'>>;

/** The setup of a seed. What is fixed changes nothing else of it. */
export function drawSetup(seed: number, requests: number, fixed: Fixed): Setup {
  const random = new Random(seed);
  const drawn = {
    engine: random.pick([...ENGINES, 'memory', 'memory', 'memory', 'io_uring'] as const),
    direct: random.oneIn(4),
    sectorSize: random.pick([512, 512, 512, 4096] as const),
    sectorPolicy: random.pick([512, 'image'] as const),
    transfer: random.pick(TRANSFERS),
    memoryMiB: random.pick([2, 4, 32]),
    guests: random.from(1, 3),
    lives: random.pick([1, 2, 4, 8]),
    queues: random.from(1, 3),
    threads: random.oneIn(3) ? random.from(1, 2) : 0,
    guestThreads: random.oneIn(2) ? 0 : 1,
    maxIndirectSegments: random.pick([0, 16, 64, 256]),
    persistentPages: random.pick([16, 300, 1056]),
    pollMicroseconds: random.pick([0, 0, 20]),
    depth: random.pick([1, 8, 32, 64, 128, 512]),
    odd: random.oneIn(3),
    races: random.oneIn(3),
    scribbles: random.oneIn(4),
    burners: random.oneIn(20) ? 1 : 0,
    moves: random.oneIn(6),
    takeOvers: random.oneIn(6),
    ends: LIFE_ENDS,
    patienceSeconds: 20,
    hangs: random.oneIn(8),
    victimMs: 2000,
  };
  const setup = { seed, requests, ...drawn, ...fixed };
  // A process that ends with requests in flight is played on one thread. The next one may read them as the race has left them.
  return setup.hangs && setup.takeOvers ? { ...setup, threads: 0, races: false } : setup;
}

/** Whether a request takes many times as long as one in memory does. */
export function isSlow({
  engine,
  sectorSize,
  odd,
  hangs,
  races,
  moves,
  takeOvers,
  burners,
  depth,
  threads,
}: Setup): boolean {
  return (
    engine !== 'memory' ||
    sectorSize > 512 ||
    odd ||
    hangs ||
    races ||
    moves ||
    takeOvers ||
    burners > 0 ||
    depth === 1 ||
    threads > 0
  );
}

export const SECTORS = 16 * 1024;
const FIRST_DOMID = 1;
const DEVICE = 51712;

/** The guests of a round, the victim first. */
export function plansOf(setup: Setup): GuestPlan[] {
  const random = new Random(setup.seed ^ 0x5eed);
  const { transfer, odd, queues, patienceSeconds } = setup;
  const moves = setup.moves || setup.takeOvers;
  // What a cache has of a discarded sector is there until it is flushed.
  const powerCuts = setup.engine === 'power-cut';
  const discarded = powerCuts ? ANY : 0;
  const shared = {
    powerCuts,
    discarded,
    moves,
    device: DEVICE,
    sectors: SECTORS,
    transfer,
    odd,
    maxQueues: queues,
    patienceSeconds,
  };
  const seed = () => random.below(2 ** 32);
  const victim: GuestPlan = {
    ...shared,
    name: 'the victim',
    domid: FIRST_DOMID,
    seed: seed(),
    victim: true,
    requests: 0,
    lives: 1,
    depth: random.pick([1, 2, 4]),
    mutatesOneIn: 0,
    nonsense: false,
    scribbles: false,
    ends: [],
    readOnly: false,
    // Its own storage is good.
    odd: false,
  };
  const hostile = Array.from(
    { length: setup.guests },
    (_, i): GuestPlan => ({
      ...shared,
      name: `guest ${i + 1}`,
      domid: FIRST_DOMID + 1 + i,
      seed: seed(),
      victim: false,
      requests: Math.ceil(setup.requests / setup.guests),
      lives: setup.lives,
      depth: setup.depth,
      mutatesOneIn: random.pick([3, 8, 30]),
      nonsense: true,
      readOnly: random.oneIn(12),
      scribbles: setup.scribbles,
      ends: setup.ends,
    }),
  );
  return [victim, ...hostile];
}
