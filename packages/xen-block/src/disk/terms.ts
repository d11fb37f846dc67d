import { deviceKeys, type KeySchema, MAX_RING_PAGE_ORDER, SECTOR_SIZE, transportKeys } from '@xenpv/blkif';
import { parseState, XenbusState } from '@xenpv/xenbus';
import type { XenstoreOperations } from '@xenpv/xenstore';
import { MAX_INDIRECT_SEGMENTS } from '../plane/requests/segments.js';
import { readHints } from './hints.js';

/** What may be offered to frontends. */
export interface ProtocolLimits {
  /** Rings of up to 2^order pages. 4, as much as Linux uses. */
  readonly maxRingPageOrder: number;
  /** Rings of one disk. */
  readonly maxQueues: number;
  /** Segments of an indirect request, up to 4096; 0 for none. 256, as Linux. */
  readonly maxIndirectSegments: number;
}

/** What a connected frontend knows of its disk and will not look at again. */
export interface ToldDevice {
  /** Bytes: the unit of its requests. */
  readonly sectorSize: number;
  /** Whether its grants may stay mapped. */
  readonly persistent: boolean;
  /** Whether it may ask that discarded data cannot be recovered. */
  readonly secureDiscard: boolean;
}

/** What one connection of a frontend is bound to, whatever this process would offer to a new one. */
export interface ConnectionTerms {
  readonly limits: ProtocolLimits;
  /** Absent: it is told when it connects. */
  readonly told?: ToldDevice | undefined;
}

/** Rings of one disk that may be offered at most. */
export const MAX_QUEUES = 256;

const termKeys = {
  ...transportKeys,
  'sector-size': deviceKeys['sector-size'],
  'feature-persistent': deviceKeys['feature-persistent'],
  'discard-secure': deviceKeys['discard-secure'],
  state: { type: 'string', optional: true },
} as const satisfies KeySchema;

/**
 * The terms that a backend's directory shows, which an earlier process wrote and the frontend has chosen from. Keys of
 * the disk count only in state Connected: in any other they are of a connection before.
 */
export async function readTerms(store: XenstoreOperations, path: string): Promise<ConnectionTerms> {
  const keys = await readHints(store, path, termKeys);
  const limits = {
    maxRingPageOrder: Math.min(
      Math.max(keys['max-ring-page-order'], Math.floor(Math.log2(Math.max(keys['max-ring-pages'], 1)))),
      MAX_RING_PAGE_ORDER,
    ),
    maxQueues: Math.min(Math.max(keys['multi-queue-max-queues'], 1), MAX_QUEUES),
    maxIndirectSegments: Math.min(keys['feature-max-indirect-segments'] ?? 0, MAX_INDIRECT_SEGMENTS),
  };
  if (parseState(keys.state) !== XenbusState.connected) return { limits };
  const told = {
    sectorSize: isSectorSize(keys['sector-size']) ? keys['sector-size'] : SECTOR_SIZE,
    persistent: keys['feature-persistent'],
    secureDiscard: keys['discard-secure'],
  };
  return { limits, told };
}

function isSectorSize(bytes: number): boolean {
  return bytes >= SECTOR_SIZE && Number.isInteger(Math.log2(bytes));
}
