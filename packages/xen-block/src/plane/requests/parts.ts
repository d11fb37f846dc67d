import type { EventChannels } from '@xenpv/xen-sys';
import type { Clock } from '../pace/clock.js';
import type { Holds } from '../pace/holds.js';
import type { ThrottledRings } from '../pace/throttled-rings.js';
import type { Barriers } from '../rings/barriers.js';
import type { BlockRing } from '../rings/ring.js';
import type { RingSet } from '../rings/ring-set.js';
import type { CopyFunction } from '../transfer/copy-stage.js';
import type { DataMemory } from '../transfer/data-memory.js';
import type { RequestEnds } from './ends.js';
import type { StorageFailures } from './failures.js';
import type { PassLists } from './lists.js';
import type { Notices } from './notices.js';
import type { RequestSegments } from './segments.js';
import type { RequestTable } from './table.js';

/** What a data plane has one of. Each stage of a pass takes those that it may touch, which its constructor's type says. */
export interface PassParts {
  readonly rings: RingSet;
  readonly table: RequestTable;
  readonly lists: PassLists;
  readonly memory: DataMemory;
  readonly segments: RequestSegments;
  readonly barriers: Barriers;
  readonly ends: RequestEnds;
  readonly failures: StorageFailures;
  readonly notices: Notices;
  readonly clock: Clock;
  readonly holds: Holds;
  readonly throttled: ThrottledRings<BlockRing>;
  readonly events: EventChannels;
  /** Grant copy, or its substitute. */
  readonly copy: CopyFunction;
}
