import type { EventChannels } from '@xenpv/xen-sys';
import { quickest } from './quickest.js';

/** System calls that a wake-up is worth, the kernel's own work included. */
const CALLS_OF_A_WAKE_UP = 10;
/** A delay that saves wake-ups may cost at most this many of them. */
const WAKE_UPS = 16;
const LEAST_MS = 0.05;
const MOST_MS = 5;

/**
 * Milliseconds that a ring may be held, so that its requests are served together: a multiple of what a wake-up costs
 * here. It is measured by a system call that does nothing, on a handle without ports: on processors that takes a
 * fraction of a microsecond, in a PV domain under emulation a hundred times that.
 */
export function measureHoldTime(events: EventChannels): number {
  const ports = new Uint32Array(1);
  const systemCall = quickest(() => events.pending(ports));
  return Math.min(MOST_MS, Math.max(LEAST_MS, WAKE_UPS * CALLS_OF_A_WAKE_UP * systemCall));
}
