import {
  type Abi,
  backendKeys,
  deviceKeys,
  formatKeys,
  frontendKeys,
  isConnectionKey,
  type KeySchema,
  type KeyValues,
  MAX_INDIRECT_PAGES,
  MAX_SEGMENTS,
  parseKeys,
  queueDirectory,
  ringKeys,
  ringRefKeys,
  SECTOR_SIZE,
  SEGMENTS_PER_INDIRECT_PAGE,
  transportKeys,
  VdiskInfo,
} from '@xenpv/blkif';
import { FrontRing } from '@xenpv/ring';
import { type EventChannels, type GrantAllocator, type GrantedPages, XEN_PAGE_SIZE } from '@xenpv/xen-sys';
import type { FrontendHandshake } from '@xenpv/xenbus';
import type { OperationOptions, XenstoreOperations } from '@xenpv/xenstore';
import { BlkfrontError } from './errors.js';

/** What the backend offers before the rings exist. */
export interface TransportLimits {
  readonly maxRingPageOrder: number;
  readonly maxQueues: number;
}

/** A ring that was made, with what it takes to end it. */
export interface MadeRing {
  readonly pages: GrantedPages;
  readonly ring: FrontRing;
  readonly port: number;
}

/** What the disk can do, as the backend says once it is connected. */
export interface BlkfrontFeatures {
  /** `feature-flush-cache`: FLUSH_DISKCACHE is taken. */
  readonly flush: boolean;
  /** `feature-barrier`: WRITE_BARRIER is taken. */
  readonly barrier: boolean;
  /** `feature-discard`: DISCARD is taken. */
  readonly discard: boolean;
  /** Bytes of an extent that can be discarded: `discard-granularity`, or the sector size; 0 without discard. */
  readonly discardGranularity: number;
  /** Bytes from the start of the disk to the first such extent: `discard-alignment`; 0 without discard. */
  readonly discardAlignment: number;
  /** `discard-secure`: a secure discard is more than a plain one. Never without discard. */
  readonly secureDiscard: boolean;
  /** `feature-persistent` of both sides: the backend may keep the pages mapped. */
  readonly persistent: boolean;
  /** Segments of an indirect request as negotiated (`feature-max-indirect-segments`), 12 or more; 0: none are used. */
  readonly maxIndirectSegments: number;
}

/** The disk, as the backend says once it is connected, and again when it is resized. */
export interface BlkfrontGeometry {
  /** Bytes: `sectors`, which are of 512 bytes each. */
  readonly size: number;
  /** Bytes, a power of two from 512 on: `sector-size`, 512 when absent. */
  readonly sectorSize: number;
  /** Bytes: `physical-sector-size`, as `sectorSize` when absent. */
  readonly physicalSectorSize: number;
  /** Bits of VdiskInfo of @xenpv/blkif: `info`, 0 when absent. */
  readonly info: number;
  /** Whether `info` has VDISK_READONLY. */
  readonly readOnly: boolean;
}

/** What the backend offers at InitWait. Both spellings of the ring's size count. */
export async function readTransportLimits(
  store: XenstoreOperations,
  { backendPath }: FrontendHandshake,
  options: OperationOptions,
): Promise<TransportLimits> {
  const keys = await readKeys(store, backendPath, transportKeys, options);
  const pages = Math.max(keys['max-ring-pages'], 1);
  return {
    maxRingPageOrder: Math.max(keys['max-ring-page-order'], Math.floor(Math.log2(pages))),
    maxQueues: Math.max(keys['multi-queue-max-queues'], 1),
  };
}

/** Makes an empty ring of 2^order pages and an event channel for it. */
export function makeRing(
  allocator: GrantAllocator,
  events: EventChannels,
  backendDomid: number,
  order: number,
  abi: Abi,
): MadeRing {
  const pages = allocator.allocate(backendDomid, 2 ** order, { writable: true });
  const memory = { buffer: pages.buffer, byteOffset: pages.offsets[0], byteLength: XEN_PAGE_SIZE << order };
  try {
    return { pages, ring: new FrontRing(memory, abi.slotBytes), port: events.bindUnbound(backendDomid) };
  } catch (error) {
    allocator.release(pages);
    throw error;
  }
}

export interface Announcement {
  readonly rings: readonly MadeRing[];
  readonly order: number;
  /** Says the order as a number of pages. */
  readonly legacyRingPages: boolean;
  /** Undefined: the `protocol` key is not written. */
  readonly protocol: string | undefined;
  readonly persistent: boolean;
}

/** Publishes the rings as Linux's blkfront does, in one transaction, and goes to Initialised. */
export async function announce(
  handshake: FrontendHandshake,
  what: Announcement,
  options: OperationOptions,
): Promise<void> {
  const count = what.rings.length;
  const order = what.order > 0 ? what.order : undefined;
  const before = formatKeys(frontendKeys, {
    'ring-page-order': what.legacyRingPages ? undefined : order,
    'num-ring-pages': order !== undefined && what.legacyRingPages ? 2 ** order : undefined,
    'multi-queue-num-queues': count > 1 ? count : undefined,
  });
  const after = formatKeys(frontendKeys, { protocol: what.protocol, 'feature-persistent': what.persistent });
  await handshake.announce(async (tx, own) => {
    await removeOldKeys(tx, own);
    await writeKeys(tx, own, before);
    for (const [index, made] of what.rings.entries()) {
      await writeKeys(tx, joinPath(own, queueDirectory(index, count)), queueTexts(made, order));
    }
    await writeKeys(tx, own, after);
  }, options);
}

/** The disk as the backend describes it at Connected. BlkfrontError ERR_HANDSHAKE when that is no disk. */
export async function readGeometry(
  store: XenstoreOperations,
  { backendPath }: FrontendHandshake,
  options: OperationOptions = {},
): Promise<BlkfrontGeometry> {
  const { sectors, info, ...keys } = await readKeys(store, backendPath, deviceKeys, options);
  const sectorSize = keys['sector-size'];
  if (sectors === undefined || sectorSize < SECTOR_SIZE || !Number.isInteger(Math.log2(sectorSize))) {
    throw new BlkfrontError('ERR_HANDSHAKE', 'connect', `${backendPath} has no usable sectors and sector-size`, {
      path: backendPath,
    });
  }
  return {
    size: sectors * SECTOR_SIZE,
    sectorSize,
    physicalSectorSize: keys['physical-sector-size'] ?? sectorSize,
    info,
    readOnly: (info & VdiskInfo.readOnly) !== 0,
  };
}

/** What the backend can do, and what of it we asked for. */
export async function readFeatures(
  store: XenstoreOperations,
  { backendPath }: FrontendHandshake,
  wanted: { persistent: boolean; maxIndirectSegments: number; sectorSize: number },
  options: OperationOptions,
): Promise<BlkfrontFeatures> {
  const keys = await readKeys(store, backendPath, backendKeys, options);
  const discard = keys['feature-discard'];
  const theoretical = MAX_INDIRECT_PAGES * SEGMENTS_PER_INDIRECT_PAGE;
  const indirect = Math.min(keys['feature-max-indirect-segments'] ?? 0, wanted.maxIndirectSegments, theoretical);
  return {
    flush: keys['feature-flush-cache'],
    barrier: keys['feature-barrier'],
    discard,
    discardGranularity: discard ? (keys['discard-granularity'] ?? wanted.sectorSize) : 0,
    discardAlignment: discard ? keys['discard-alignment'] : 0,
    secureDiscard: discard && keys['discard-secure'],
    persistent: wanted.persistent && keys['feature-persistent'],
    // Fewer than a direct request has are useless (Linux ignores them too).
    maxIndirectSegments: indirect > MAX_SEGMENTS ? indirect : 0,
  };
}

function queueTexts({ pages, port }: MadeRing, order: number | undefined): Record<string, string> {
  const refs = ringRefKeys(order).map((key, page) => [key, pages.refs[page]]);
  return formatKeys(ringKeys(order), { 'event-channel': port, ...Object.fromEntries(refs) });
}

/** An earlier connection may have had other keys, and its ring is not there any more. */
async function removeOldKeys(tx: XenstoreOperations, own: string): Promise<void> {
  for (const key of await tx.directory(own)) if (isConnectionKey(key)) await tx.remove(`${own}/${key}`);
}

/** Reads the keys of a schema. The other side is not trusted: what is unreadable counts as missing. */
async function readKeys<const S extends KeySchema>(
  store: XenstoreOperations,
  path: string,
  schema: S,
  options: OperationOptions,
): Promise<KeyValues<S>> {
  const names = Object.keys(schema);
  const texts = await Promise.all(names.map((name) => store.tryRead(`${path}/${name}`, options)));
  return parseKeys(schema, Object.fromEntries(names.map((name, index) => [name, texts[index]])));
}

async function writeKeys(tx: XenstoreOperations, path: string, texts: Record<string, string>): Promise<void> {
  for (const [key, text] of Object.entries(texts)) await tx.write(`${path}/${key}`, text);
}

function joinPath(path: string, below: string): string {
  return below === '' ? path : `${path}/${below}`;
}
