import type { EventChannels } from '@xenpv/xen-sys';

const ROUNDS = 8;
const TRIALS = 8;

/** System calls that a sleep and its wake-up are worth, the kernel's own work included. */
const CALLS_OF_A_SLEEP = 10;
/** Wake-ups that a delay may last which saves some. */
const PATIENCE = 16;

/** Milliseconds of what a data plane may do instead of sleeping at once, as this machine wants it. */
export interface WakeCost {
  /** What a sleep and the wake-up after it cost. */
  readonly sleep: number;
  /** How long requests may be waited for to be served together. */
  readonly patience: number;
}

/**
 * Measured by a system call that does nothing, on a handle without ports: on processors it takes a fraction of a
 * microsecond, in a PV domain under emulation a hundred times that.
 */
export function measureWakeCost(events: EventChannels): WakeCost {
  const sleep = between(0.02, CALLS_OF_A_SLEEP * systemCall(events), 1);
  return { sleep, patience: between(0.05, PATIENCE * sleep, 5) };
}

/** Milliseconds, by the quickest of several rounds: the others may have been interrupted. */
function systemCall(events: EventChannels): number {
  const ports = new Uint32Array(1);
  let quickest = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round++) {
    const begin = performance.now();
    for (let i = 0; i < TRIALS; i++) events.pending(ports);
    quickest = Math.min(quickest, (performance.now() - begin) / TRIALS);
  }
  return quickest;
}

function between(least: number, value: number, most: number): number {
  return Math.min(most, Math.max(least, value));
}
