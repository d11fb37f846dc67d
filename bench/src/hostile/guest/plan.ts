import type { AbiName } from '@xenpv/blkif';
import type { DiskState } from '../oracle/disk-model.js';

/** What a guest asks of its host. */
export interface World {
  /** Makes the domain, if there is none, and attaches the disk. */
  attach(): Promise<void>;
  /** Resolves when nothing is left of the disk. */
  detach(): Promise<void>;
  /** The same, for the whole domain. */
  destroy(): Promise<void>;
}

/** How a guest behaves. */
export interface GuestPlan {
  readonly name: string;
  readonly domid: number;
  readonly seed: number;
  readonly device: number;
  /** A victim sends what is allowed only, a few requests at a time, and is never interrupted. */
  readonly victim: boolean;
  readonly requests: number;
  readonly lives: number;
  readonly sectors: number;
  readonly readOnly: boolean;
  readonly transfer: 'copy' | 'map' | 'persistent';
  readonly depth: number;
  readonly mutatesOneIn: number;
  readonly nonsense: boolean;
  readonly scribbles: boolean;
  /** How lives may end, besides with a close. */
  readonly ends: readonly LifeEnd[];
  readonly odd: boolean;
  /** What a sector reads as after a discard, if not as before. */
  readonly discarded: number;
  readonly maxQueues: number;
  /** Its disk loses its power at the end of each life. */
  readonly powerCuts: boolean;
  /** Its rings are moved meanwhile, or taken over. */
  readonly moves: boolean;
  readonly abi?: AbiName | undefined;
  readonly patienceSeconds: number;
}

export const LIFE_ENDS = ['runaway', 'destroyed', 'detached', 'states', 'flood', 'grants', 'ports'] as const;
export type LifeEnd = (typeof LIFE_ENDS)[number];

export interface GuestReport {
  readonly answered: number;
  readonly lives: number;
  readonly refused: number;
  readonly state: DiskState;
  /** Milliseconds; of a victim. */
  readonly latency: { readonly p50: number; readonly p99: number; readonly most: number };
}
