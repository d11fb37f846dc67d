import type { Random } from '../program/random.js';

/** Something that reads bytes of a peer that it does not trust. */
export interface Target {
  readonly name: string;
  /** Reads one input, and throws when that does not end as it must. */
  read(bytes: Buffer, random: Random): void | Promise<void>;
}

/** What a target throws: the input shows a fault. */
export class Fault extends Error {
  override readonly name = 'Fault';
}

export function mustHold(condition: boolean, message: string): void {
  if (!condition) throw new Fault(message);
}
