/**
 * What must hold while a data plane rests, looked at from outside of its stages: nothing is left to do that nobody will
 * be woken for. For tests, fuzzers and the watchdog; it walks over all requests, so it is for none of the passes.
 */
import { BlkifOp } from '@xenpv/blkif';
import type { PassParts } from './requests/parts.js';
import { Phase } from './requests/table.js';
import type { BlockRing } from './rings/ring.js';

type Parts = Pick<PassParts, 'rings' | 'table' | 'lists' | 'barriers' | 'holds'>;

const NONE = -1;

/** What does not hold, in words; or undefined. */
export function brokenAtRest(parts: Parts): string | undefined {
  const { rings, table } = parts;
  if (rings.awake.length > 0) return `${rings.awake.map(({ name }) => name).join(', ')} awake`;
  const list = stuckList(parts);
  if (list !== undefined) return list;
  let pending = 0;
  for (const ring of rings.all) {
    if (!ring) continue;
    pending += ring.pending;
    const broken = brokenRing(parts, ring);
    if (broken !== undefined) return `${ring.name}: ${broken}`;
  }
  return pending === table.used ? undefined : `${table.used} requests in the table, ${pending} pending`;
}

/** A list that no pass will look at; or undefined. */
export function stuckList({ rings, lists }: Pick<Parts, 'rings' | 'lists'>): string | undefined {
  for (const name of ['admitted', 'restart', 'ended'] as const) {
    if (lists[name].count > 0) return `${lists[name].count} requests in ${name}`;
  }
  if (lists.taken.count === 0) return undefined;
  // What waits for memory is looked at again when the storage has ended what has it.
  const storageWorks = rings.all.some((ring) => ring?.queue !== undefined && ring.queue.inFlight > 0);
  return storageWorks ? undefined : `${lists.taken.count} requests wait for memory, and nothing is in flight`;
}

function brokenRing({ table, barriers, holds }: Parts, ring: BlockRing): string | undefined {
  const rows = Array.from({ length: table.capacity }, (_, row) => row).filter(
    (row) => table.phase[row] !== Phase.free && table.ring[row] === ring.index,
  );
  if (rows.length !== ring.pending) return `${rows.length} requests in the table, ${ring.pending} pending`;
  const calls = rows.filter((row) => table.phase[row] === Phase.queued || table.phase[row] === Phase.flushing);
  const followers = calls.filter((row) => table.next[row] !== NONE).length;
  const inFlight = ring.queue?.inFlight ?? 0;
  if (calls.length - followers !== inFlight) return `${calls.length - followers} calls, ${inFlight} in flight`;
  for (const row of rows) {
    const phase = table.phase[row];
    if (phase === Phase.taken || calls.includes(row)) continue;
    const barrierWaits = phase === Phase.admitted && table.operation[row] === BlkifOp.writeBarrier && ring.pending > 1;
    if (!barrierWaits) return `request ${row} in phase ${phase} and no list`;
  }
  if (!barriers.mayTake(ring)) return undefined;
  const until = (ring.back.indices.requestEvent - ring.back.requestsConsumed) >>> 0;
  if (until >= 1 && until <= holds.wakeAfter(ring)) return undefined;
  return `sleeps, and its frontend sends no event for the next request`;
}
