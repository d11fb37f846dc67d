import type { EventChannels } from '@xenpv/xen-sys';

const ROUNDS = 8;
const TRIALS = 8;

/** System calls that a wake-up is worth, the kernel's own work included. */
const CALLS_OF_A_WAKE_UP = 10;
/** Wake-ups that a delay may last which saves some. */
const WAKE_UPS = 16;
const LEAST_MS = 0.05;
const MOST_MS = 5;

/**
 * Milliseconds for which requests may be waited for to be served together: some times what a wake-up costs here. It is
 * measured by a system call that does nothing, on a handle without ports: on processors that takes a fraction of a
 * microsecond, in a PV domain under emulation a hundred times that.
 */
export function measurePatience(events: EventChannels): number {
  return Math.min(MOST_MS, Math.max(LEAST_MS, WAKE_UPS * CALLS_OF_A_WAKE_UP * systemCall(events)));
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
