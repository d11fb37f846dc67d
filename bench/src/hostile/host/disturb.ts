import { setTimeout as sleep } from 'node:timers/promises';
import { Random } from '../../program/random.js';
import type { ServedBackend } from './served-backend.js';
import type { Setup } from './setup.js';

/** Moves a ring of some disk every few milliseconds; says how often. What fails there closes the disk, or has it held. */
export async function moveRings(served: ServedBackend, setup: Setup, signal: AbortSignal): Promise<number> {
  const random = new Random(setup.seed);
  let moves = 0;
  while (!signal.aborted) {
    await sleep(random.from(1, 30));
    const { backend } = served;
    const hosts = setup.threads === 0 ? backend.hosts.slice(0, 1) : backend.hosts;
    const devices = [...backend.devices];
    const device = devices.length === 0 ? undefined : random.pick(devices);
    const queues = device?.negotiated?.rings.length ?? 0;
    // While the guest closes its disk there is nothing to move.
    if (queues === 0 || signal.aborted) continue;
    await device?.moveQueue(random.below(queues), random.pick(hosts)).catch(() => {});
    moves++;
  }
  return moves;
}

/** Has another backend take over all disks now and then; says how often. */
export async function takeOver(served: ServedBackend, { seed }: Setup, signal: AbortSignal): Promise<number> {
  const random = new Random(seed);
  let times = 0;
  while (!signal.aborted) {
    await sleep(random.from(50, 800), undefined, { signal }).catch(() => {});
    if (signal.aborted) break;
    await served.takeOver();
    // A machine that is busy must not spend all its time on the next one.
    await served.backend.settled({ signal });
    times++;
  }
  return times;
}
