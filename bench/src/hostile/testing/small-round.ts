import type { Fixed } from '../host/setup.js';

/** Everything on one thread and in memory: the same requests in the same order each time. */
export const SMALL: Fixed = {
  engine: 'memory',
  sectorSize: 512,
  sectorPolicy: 512,
  transfer: 'copy',
  memoryMiB: 2,
  guests: 1,
  lives: 1,
  queues: 1,
  threads: 0,
  guestThreads: 0,
  maxIndirectSegments: 64,
  pollMicroseconds: 0,
  depth: 32,
  odd: false,
  hangs: false,
  races: false,
  scribbles: false,
  burners: 0,
  moves: false,
  takeOvers: false,
  patienceSeconds: 10,
  victimMs: 5000,
};
