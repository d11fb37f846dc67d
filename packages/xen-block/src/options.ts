import { availableParallelism } from 'node:os';
import { MAX_RING_PAGE_ORDER } from '@xenpv/blkif';
import type { Domid, XenProvider } from '@xenpv/xen-sys';
import type { GuestPaces } from '@xenpv/xenbus';
import type { XenstoreClient } from '@xenpv/xenstore';
import type { ImageOpener, OnErrorChoice, SectorSizePolicy } from './disk/disk.js';
import type { DataPathChoice } from './disk/disk-rings.js';
import { MAX_QUEUES, type ProtocolLimits } from './disk/terms.js';
import type { XenBlockError } from './errors.js';
import type { DiskLimitsChoice } from './limits/disk-limits.js';
import { type DataPlaneOptions, LET_GO_MS } from './plane/data-plane.js';
import { MAX_INDIRECT_SEGMENTS } from './plane/requests/segments.js';
import { leastMemory } from './plane/transfer/data-memory.js';
import type { RateLimits } from './rate-limits.js';

const INDIRECT_SEGMENTS = 256;
const STALL_MS = 10_000;
const GROWTH_MS = 30_000;
/** As blkback. */
const PERSISTENT_PAGES = 1056;

/**
 * How data gets between guests and storage. `copy`: the hypervisor copies it through our memory. `map`: every request's
 * pages are mapped. `persistent`: pages stay mapped for frontends that know feature-persistent, which then copy every
 * byte themselves; the requests of others are copied.
 */
export type DataPathPolicy = 'copy' | 'map' | 'persistent';

/** What is offered to frontends; the backend has a default for each. */
export type OfferedLimits = { readonly [K in keyof ProtocolLimits]?: ProtocolLimits[K] | undefined };

/** What a backend serves, and how. */
export interface XenBlockBackendOptions extends DataPlaneOptions {
  /** Where event channels and grant tables are opened: `nativeProvider()` of @xenpv/xen-sys, or an emulated one. */
  readonly provider: XenProvider;
  /** A connection of the domain that the backend runs in. It stays the caller's to close. */
  readonly store: XenstoreClient;
  /** Backend types to serve. `['qdisk']` when not given. */
  readonly types?: readonly string[] | undefined;
  /** The domain that this process runs in; read from the store when not given. */
  readonly ownDomid?: Domid | undefined;
  /** Types for which Connected waits for a hotplug script; `vbd` and `vbd3` when not given. */
  readonly hotplugTypes?: readonly string[] | undefined;
  /** Delete a device's directory when the toolstack is done with it; by default in every domain but 0. */
  readonly removeDirectories?: boolean | undefined;
  /** Threads that serve rings besides this one. 0 when not given: everything on this one. */
  readonly threads?: number | undefined;
  /**
   * A thread that serves rings has ended by itself. Their requests in flight are done by nobody, and what the thread has
   * begun may still happen: the process should end at once. With a journal the next one does the rest, and the guests
   * notice a pause. When not given, the error is thrown for nobody to catch, which ends a process of Node.
   */
  readonly onThreadLost?: ((error: XenBlockError) => void) | undefined;
  /** `copy` when not given. Where the provider has no grant copy, data is mapped instead. */
  readonly dataPath?: DataPathPolicy | undefined;
  /** With `persistent`: pages of each ring that stay mapped. 1056, as blkback. */
  readonly persistentPages?: number | undefined;
  /**
   * What guests see of storage with larger sectors. 512 when not given, which every guest understands: parts of
   * sectors are then written by reading the rest first. `image`: the storage's own size.
   */
  readonly sectorSize?: SectorSizePolicy | undefined;
  /**
   * A folder, on a file system in memory, where the requests in flight are noted: a process that is started after this
   * one was killed carries them out. It must exist. None are noted when not given.
   */
  readonly journalDirectory?: string | undefined;
  /**
   * What is done when the storage fails a request, for all disks or for one; `report` when not given. The key `on-error`
   * in a disk's backend directory, which an operator may write, comes first.
   */
  readonly onError?: OnErrorChoice | undefined;
  /**
   * What a disk may do in a second, for all disks or for one; no limit when not given. The key `limits` in a disk's backend
   * directory, which an operator may write, comes first.
   */
  readonly diskLimits?: DiskLimitsChoice | undefined;
  /** What all disks of a guest may do together. The key `guest-limits` of any of them comes first. */
  readonly guestLimits?: RateLimits | undefined;
  /** The age of a request, in milliseconds, at which storage that hangs is told of. 10 000 when not given. */
  readonly stallMs?: number | undefined;
  /**
   * Milliseconds between looks at the sizes of files and block devices that guests use: growth is told to them without being
   * asked for, shrinking never. 30 000 when not given; 0: only `refresh` looks.
   */
  readonly growthMs?: number | undefined;
  /**
   * How long opening an image, or attaching rings, may take after it is not wanted any more, in milliseconds; 5000 when
   * not given. Then it is left behind.
   */
  readonly abortTimeoutMs?: number | undefined;
  /**
   * How long closing waits for each disk, in milliseconds; 20000 when not given. Then it is left behind, with the requests
   * that its journal has: the next process carries them out.
   */
  readonly stopTimeoutMs?: number | undefined;
  /** How fast a guest may make the backend do things by its states in xenstore; `GUEST_PACES` where not given. */
  readonly guestPaces?: Partial<GuestPaces> | undefined;
  /** How images are opened; by default raw files and block devices only. */
  readonly openImage?: ImageOpener | undefined;
  /** What is offered to frontends, see {@link ProtocolLimits}. */
  readonly limits?: OfferedLimits | undefined;
  /** Aborting ends the start, which rejects with its reason. Later it means nothing: there is `close`. */
  readonly signal?: AbortSignal | undefined;
}

/** Options with their defaults. RangeError when one is out of its range. */
export interface CheckedOptions {
  readonly limits: ProtocolLimits;
  readonly threads: number;
  readonly plane: DataPlaneOptions;
  readonly dataPath: DataPathChoice;
  readonly stallMs: number;
  readonly growthMs: number;
  readonly letGoMs: number;
}

export function checkOptions(options: XenBlockBackendOptions): CheckedOptions {
  const { provider, threads = 0, memoryBytes, pollMicroseconds = 0 } = options;
  const { letGoMs = LET_GO_MS, stallMs = STALL_MS, growthMs = GROWTH_MS } = options;
  const limits = checkedLimits(options.limits ?? {}, provider);
  checkMemory(memoryBytes, limits);
  const dataPath = checkedDataPath(options);
  checkLimit('threads', threads, 0, 256);
  checkLimit('pollMicroseconds', pollMicroseconds, 0, 10_000);
  checkLimit('stallMs', stallMs, 1, 86_400_000);
  checkLimit('growthMs', growthMs, 0, 86_400_000);
  checkLimit('letGoMs', letGoMs, 1, 86_400_000);
  return { limits, threads, plane: { memoryBytes, pollMicroseconds, letGoMs }, dataPath, stallMs, growthMs, letGoMs };
}

/** A ring of several pages takes a mapping of several pages. */
function checkedLimits(limits: OfferedLimits, { features }: XenProvider): ProtocolLimits {
  const all = {
    maxRingPageOrder: features.mapMultiple ? (limits.maxRingPageOrder ?? MAX_RING_PAGE_ORDER) : 0,
    maxQueues: limits.maxQueues ?? availableParallelism(),
    maxIndirectSegments: limits.maxIndirectSegments ?? INDIRECT_SEGMENTS,
  };
  checkLimit('maxRingPageOrder', all.maxRingPageOrder, 0, MAX_RING_PAGE_ORDER);
  checkLimit('maxQueues', all.maxQueues, 1, MAX_QUEUES);
  checkLimit('maxIndirectSegments', all.maxIndirectSegments, 0, MAX_INDIRECT_SEGMENTS);
  return all;
}

function checkedDataPath({
  provider,
  dataPath = 'copy',
  persistentPages = PERSISTENT_PAGES,
}: XenBlockBackendOptions): DataPathChoice {
  checkLimit('persistentPages', persistentPages, 1, 1 << 20);
  const once = dataPath === 'map' || !provider.features.grantCopy ? 'map' : 'copy';
  return { dataPath: once, persistentPages: dataPath === 'persistent' ? persistentPages : 0 };
}

/** Room for the largest request and its segments, always: otherwise it would wait for ever. */
function checkMemory(bytes: number | undefined, { maxIndirectSegments }: ProtocolLimits): void {
  const least = leastMemory(maxIndirectSegments);
  if (bytes === undefined || (bytes >= least && Number.isInteger(Math.log2(bytes)))) return;
  throw new RangeError(`memoryBytes is ${bytes}; expected a power of two from ${least} on`);
}

function checkLimit(name: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw new RangeError(`${name} is ${value}; expected a whole number from ${least} to ${most}`);
}
