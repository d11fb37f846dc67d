import type { Tampering } from '../host/round.js';
import type { Setup } from '../host/setup.js';

/** A defect that is there until it is disposed of. */
export type Planted = Tampering & Disposable;

/** A defect that must be noticed. */
export interface Mutant {
  readonly name: string;
  readonly plant: () => Planted;
  /** What it is noticed by. */
  readonly noticed: RegExp;
  readonly fixed?: Partial<Setup>;
  readonly seed?: number;
  readonly requests?: number;
}

/** In what the backend is given, and nowhere else. */
export function inOptions(options: NonNullable<Tampering['options']>): Planted {
  return { options, [Symbol.dispose]: () => {} };
}
