import { type Channel, channel } from 'node:diagnostics_channel';
import { requestIdHigh, requestIdLow } from '@xenpv/blkif';
import type { BlockRing } from '../ring.js';
import { type RequestTable, ROW_WORDS } from './table.js';

/**
 * Published on `xen-block:request:pulled`, `:queued`, `:completed` and `:pushed` on the thread that serves the ring,
 * for each request that passes that point.
 */
export interface RequestEvent {
  /** The ring: `qdisk-5-51712/0`. */
  readonly ring: string;
  /** The frontend's id. */
  readonly id: bigint;
  /** The operation; for an indirect request the inner one. */
  readonly operation: number;
  /** Bytes in the image; 0 where the request has none, and before it was checked. */
  readonly offset: number;
  readonly length: number;
  /** BlkifStatus; OKAY as long as nothing went wrong. */
  readonly status: number;
}

/** The four points of a request's way. */
export const requestChannels = {
  pulled: channel('xen-block:request:pulled'),
  queued: channel('xen-block:request:queued'),
  completed: channel('xen-block:request:completed'),
  pushed: channel('xen-block:request:pushed'),
} as const;

/** Publishes a request. To be called only when the channel has subscribers. */
export function publishRequest(to: Channel, table: RequestTable, row: number, ring: BlockRing): void {
  const at = row * ROW_WORDS;
  const low = requestIdLow(table.words, at, ring.abi) >>> 0;
  const high = requestIdHigh(table.words, at, ring.abi) >>> 0;
  const event: RequestEvent = {
    ring: ring.name,
    id: (BigInt(high) << 32n) | BigInt(low),
    operation: table.operation[row],
    offset: table.offset[row],
    length: table.length[row],
    status: table.status[row],
  };
  to.publish(event);
}
