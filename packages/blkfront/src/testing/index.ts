import { type Blkfront, rawQueueOf } from '../blkfront.js';
import type { RawQueue } from '../rings/raw.js';

export type { BlkfrontTestingOptions } from '../options.js';
export type { RawPage, RawQueue, RawResponse } from '../rings/raw.js';

/** One of a disk's queues, for requests that no frontend would make: what a backend makes of them is tested so. */
export function rawQueue(disk: Blkfront, queue = 0): RawQueue {
  return rawQueueOf(disk, queue);
}
