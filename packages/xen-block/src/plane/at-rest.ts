/**
 * What must hold while a data plane rests, looked at from outside of its stages: nothing is left to do that nobody will
 * be woken for. For tests, fuzzers and the watchdog; it walks over all requests, so it is for none of the passes.
 */
import { BlkifOp } from '@xenpv/blkif';
import type { PassParts } from './requests/parts.js';
import { Phase } from './requests/table.js';
import type { BlockRing } from './rings/ring.js';

type Parts = Pick<PassParts, 'rings' | 'table' | 'lists' | 'shares' | 'waiting' | 'barriers' | 'holds'>;

type Waits = Pick<Parts, 'rings' | 'lists' | 'shares' | 'waiting'>;

const NONE = -1;
const LISTS = ['taken', 'admitted', 'restart', 'ended'] as const;

/** What does not hold, in words; or undefined. */
export function brokenAtRest(parts: Parts): string | undefined {
  const { rings } = parts;
  if (rings.awake.length > 0) return `${rings.awake[0].name} is awake`;
  const list = stuckList(parts);
  if (list !== undefined) return list;
  let inFlight = 0;
  let pending = 0;
  for (const ring of rings.all) {
    if (!ring) continue;
    pending += ring.pending;
    inFlight += ring.queue?.inFlight ?? 0;
    if (isDeaf(parts, ring)) return `${ring.name} sleeps, and its frontend sends no event for the next request`;
  }
  return brokenTable(parts, pending, inFlight) ?? parts.shares.broken;
}

/** A list that no pass will look at; or undefined. */
export function stuckList({ rings, lists, shares, waiting }: Waits): string | undefined {
  for (const name of LISTS) if (lists[name].count > 0) return `${lists[name].count} requests in ${name}`;
  if (lists.owesTurn || lists.owesSlice) return `requests wait for their guests' turns`;
  if (waiting.total === 0) return undefined;
  for (const ring of rings.all) {
    // What a disk has comes back with the end of its requests, which is looked at.
    if (!ring || waiting.countOf(ring) === 0 || shares.heldBy(ring) > 0) continue;
    if (shares.mayTry(ring))
      return `${waiting.countOf(ring)} requests of ${ring.name} wait, and its disk has no memory`;
  }
  return undefined;
}

/** Whether its frontend may put a request without an event. */
function isDeaf({ barriers, holds }: Parts, ring: BlockRing): boolean {
  if (!barriers.mayTake(ring)) return false;
  const until = (ring.back.indices.requestEvent - ring.back.requestsConsumed) >>> 0;
  return until < 1 || until > holds.wakeAfter(ring);
}

/** `pending` requests and `inFlight` calls, as the rings and the engines count them. */
function brokenTable({ table }: Parts, pending: number, inFlight: number): string | undefined {
  let calls = 0;
  for (let row = 0; row < table.capacity; row++) {
    const phase = table.phase[row];
    if (phase === Phase.free || phase === Phase.taken) continue;
    if (phase === Phase.queued || phase === Phase.flushing) {
      // The last of a chain stands for its call.
      if (table.next[row] === NONE) calls++;
      continue;
    }
    const barrier = phase === Phase.admitted && table.operation[row] === BlkifOp.writeBarrier;
    if (!barrier || table.ringOf(row).pending < 2) return `request ${row} is in phase ${phase} and in no list`;
  }
  if (table.used !== pending) return `${table.used} requests in the table, ${pending} pending`;
  return calls === inFlight ? undefined : `${calls} calls in the table, ${inFlight} in flight`;
}
