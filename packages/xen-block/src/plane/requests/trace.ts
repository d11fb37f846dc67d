import type { Channel } from 'node:diagnostics_channel';
import { requestIdHigh, requestIdLow } from '@xenpv/blkif';
import type { RequestEvent } from '../../diagnostics.js';
import { type RequestTable, ROW_WORDS } from './table.js';

/** Publishes a request that passes a point of its way, if somebody listens there. */
export function trace(point: Channel, table: RequestTable, row: number): void {
  if (point.hasSubscribers) point.publish(requestEvent(table, row));
}

function requestEvent(table: RequestTable, row: number): RequestEvent {
  const ring = table.ringOf(row);
  const at = row * ROW_WORDS;
  const low = requestIdLow(table.words, at, ring.abi) >>> 0;
  const high = requestIdHigh(table.words, at, ring.abi) >>> 0;
  return {
    ring: ring.name,
    id: (BigInt(high) << 32n) | BigInt(low),
    operation: table.operation[row],
    offset: table.offset[row],
    length: table.length[row],
    status: table.status[row],
  };
}
