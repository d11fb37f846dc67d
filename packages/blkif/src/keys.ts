import type { KeySchema } from './key-values.js';

/** What a backend publishes before InitWait: how to reach it. Numbers of the ring are in the frontend's directory. */
export const transportKeys = {
  /** The most segments of an indirect request. Absent: BLKIF_OP_INDIRECT is not taken. */
  'feature-max-indirect-segments': { type: 'uint', optional: true },
  /** The most rings of a disk: the limit of `multi-queue-num-queues`. Absent: 1. */
  'multi-queue-max-queues': { type: 'uint', default: 1 },
  /** log2 of the most pages of each ring: the limit of `ring-page-order`. Absent: 0, rings of one page. */
  'max-ring-page-order': { type: 'uint', default: 0 },
  /** The same in pages, a power of two: the older spelling, deprecated. Absent: 1. The larger of the two counts. */
  'max-ring-pages': { type: 'uint', default: 1 },
} as const satisfies KeySchema;

/** What a backend publishes before Connected: the disk, and what it can do. */
export const deviceKeys = {
  /** BLKIF_OP_WRITE_BARRIER is taken. It may still be answered with BLKIF_RSP_EOPNOTSUPP at any time. */
  'feature-barrier': { type: 'boolean', default: false },
  /** BLKIF_OP_FLUSH_DISKCACHE is taken, with the same reservation. */
  'feature-flush-cache': { type: 'boolean', default: false },
  /** BLKIF_OP_DISCARD is taken, with the same reservation. */
  'feature-discard': { type: 'boolean', default: false },
  /**
   * Bytes: the size of the extents that the storage can discard. Absent: as `sector-size`. Both this and
   * `discard-alignment` are to be published with `feature-discard`.
   */
  'discard-granularity': { type: 'uint', optional: true },
  /** Bytes from the start of the disk to the first extent of `discard-granularity`. Absent: 0. */
  'discard-alignment': { type: 'uint', default: 0 },
  /** A discard with the flag BLKIF_DISCARD_SECURE is taken. Otherwise the flag is ignored. */
  'discard-secure': { type: 'boolean', default: false },
  /** The backend can keep the frontend's grants mapped. In effect only if the frontend publishes this key too. */
  'feature-persistent': { type: 'boolean', default: false },
  /**
   * The size of the disk in units of 512 bytes, whatever `sector-size` says; 0 for an empty drive. A backend that
   * resizes a connected disk writes it, and then state Connected once more.
   */
  sectors: { type: 'uint64' },
  /** A bitmap of {@link VdiskInfo}: 1 a CD-ROM, 2 removable, 4 read-only. */
  info: { type: 'uint', default: 0 },
  /** Bytes of a logical sector, a power of two from 512 on: what requests must be aligned to. Absent: 512. */
  'sector-size': { type: 'uint', default: 512 },
  /** Bytes, a multiple of `sector-size`: what the storage works in, as a hint. Absent: as `sector-size`. */
  'physical-sector-size': { type: 'uint', optional: true },
} as const satisfies KeySchema;

/** All that a backend publishes for its frontend (io/blkif.h, "Backend XenBus Nodes"). */
export const backendKeys = { ...transportKeys, ...deviceKeys } as const satisfies KeySchema;

/** What a toolstack, its hotplug script or an operator writes into the backend's directory for the backend. */
export const toolstackKeys = {
  /** The path of the frontend's directory: `/local/domain/<domid>/device/vbd/<devid>`. */
  frontend: { type: 'string' },
  /** The frontend's domain. */
  'frontend-id': { type: 'domid' },
  /** 1 as long as the toolstack wants the device to exist. 0: when it is Closed next, it is closed for good. */
  online: { type: 'boolean', default: false },
  /** The vdev by name, such as `xvda`. Absent: the devid of the directory's path says it. */
  dev: { type: 'string', optional: true },
  /** What to serve. From libxl `format:target` for qdisk and tap, the bare target for phy. */
  params: { type: 'string', optional: true },
  /** The kind of backend as libxl names it: `phy` in `backend/vbd`, elsewhere as the directory, `qdisk` or `vbd3`. */
  type: { type: 'string', optional: true },
  /** `r` or `w`. Writable only when it contains a `w`; a `!` after it allows that the image is shared. Absent: `r`. */
  mode: { type: 'string', optional: true },
  /** `disk` or `cdrom`; xenopsd writes `floppy` too. Absent: a disk. */
  'device-type': { type: 'string', optional: true },
  /** Whether the medium can be changed. libxl writes 1 for a cdrom; what a frontend reads is `info`. */
  removable: { type: 'boolean', default: false },
  /** Whether a guest may boot from it. libxl writes 1 for every disk. */
  bootable: { type: 'boolean', default: false },
  /** O_DIRECT may be used: the storage is not affected by the page lifetime bug that io/blkif.h tells of. */
  'direct-io-safe': { type: 'boolean', default: false },
  /** 0: discard is not offered. 1 or absent: it is, when the storage can do it. */
  'discard-enable': { type: 'boolean', optional: true },
  /** `xen` from libxl 4.17 on, for a disk that speaks blkif; a disk that does not has `virtio`. */
  specification: { type: 'string', optional: true },
  /** The path of the hotplug script that libxl runs for phy and tap. Absent for qdisk, which has none. */
  script: { type: 'string', optional: true },
  /**
   * `connected` when the hotplug script has succeeded, `error` or `busy` when it has failed. For qdisk, which has no
   * script, the backend writes `connected` itself.
   */
  'hotplug-status': { type: 'string', optional: true },
  /**
   * Of no toolstack: an operator's wish what is done when the storage fails a request. `report`, `stop-on-enospc` or
   * `stop`; absent: the backend's options decide.
   */
  'on-error': { type: 'string', optional: true },
  /**
   * Of no toolstack either: what the disk may do in a second, such as `iops=500,bandwidth=20M`, or `none`. Absent: the
   * backend's options decide.
   */
  limits: { type: 'string', optional: true },
  /** As `limits`: what all disks of the guest may do together. */
  'guest-limits': { type: 'string', optional: true },
  /** Of no toolstack either: since when the disk takes no requests, an ISO date. Absent: it takes them. */
  paused: { type: 'string', optional: true },
  /**
   * Of no toolstack either, by the backend itself: 1 for a disk whose guest migrates to this host and is not connected yet,
   * 0 once it was. Absent: the guest's name says it.
   */
  incoming: { type: 'boolean', optional: true },
  /** `major:minor` of the block device, both in hexadecimal. Of the hotplug script, on Linux and NetBSD. */
  'physical-device': { type: 'string', optional: true },
  /** The absolute path of the block device or image. Of the hotplug script. */
  'physical-device-path': { type: 'string', optional: true },
} as const satisfies KeySchema;

/** What a frontend publishes once for all its queues (io/blkif.h, "Frontend XenBus Nodes"). */
export const frontendKeys = {
  /**
   * The layout of the frontend's structures: `x86_32-abi`, `x86_64-abi` or `arm-abi`, see {@link abiOfProtocol}. Absent:
   * `x86_32-abi` on an x86 machine. A string, so that the backend can say which one it does not know.
   */
  protocol: { type: 'string', optional: true },
  /** log2 of the pages of each ring. Absent: `num-ring-pages` says it. Without both: one page, named by `ring-ref`. */
  'ring-page-order': { type: 'uint', optional: true },
  /** The same in pages, a power of two: the older spelling, deprecated. */
  'num-ring-pages': { type: 'uint', optional: true },
  /** Rings, 1 to the backend's `multi-queue-max-queues`: each of several has a directory `queue-N`. Absent: 1. */
  'multi-queue-num-queues': { type: 'uint', default: 1 },
  /** The frontend uses the same grants for all requests, and lets the backend keep all of them mapped for writing. */
  'feature-persistent': { type: 'boolean', default: false },
} as const satisfies KeySchema;

/** What a toolstack writes into the frontend's directory. */
export const frontendToolstackKeys = {
  /** The path of the backend's directory: `/local/domain/<domid>/backend/<kind>/<frontend-id>/<devid>`. */
  backend: { type: 'string' },
  /** The backend's domain. */
  'backend-id': { type: 'domid' },
  /** The number of the {@link Vdev}: what the guest names its disk by. */
  'virtual-device': { type: 'uint', optional: true },
  /** `disk`, `cdrom` or `floppy`. */
  'device-type': { type: 'string', optional: true },
  /**
   * 0: the frontend must guard against its backend, and grants only pages that it copies data to and from (XSA-403).
   * From libxl 4.17 on. Absent: 1.
   */
  trusted: { type: 'boolean', default: true },
} as const satisfies KeySchema;

/**
 * What a frontend publishes for each queue: in its own directory when there is one queue, in `queue-N` for each of
 * several. The references of a ring of several pages are as `ring-ref`, by the names that {@link ringRefKeys} gives.
 */
export const queueKeys = {
  /** The frontend's port, unbound until the backend binds to it. */
  'event-channel': { type: 'uint' },
  /** The grant reference of the page of a ring that has only one. */
  'ring-ref': { type: 'uint', optional: true },
} as const satisfies KeySchema;

/** The names of the keys of a ring's references: `ring-ref` without an order, else `ring-ref0` to 2^order - 1. */
export function ringRefKeys(order: number | undefined): string[] {
  if (order === undefined) return ['ring-ref'];
  return Array.from({ length: 2 ** order }, (_, page) => `ring-ref${page}`);
}

/** The keys of a queue whose ring has 2^order pages, or one without an order. */
export function ringKeys(order: number | undefined): KeySchema {
  const refs = ringRefKeys(order).map((key) => [key, { type: 'uint' }] as const);
  return { ...Object.fromEntries(refs), 'event-channel': queueKeys['event-channel'] };
}

/** Whether a key or directory of a frontend's is of one connection, so that it goes before the next one. */
export function isConnectionKey(name: string): boolean {
  return name in frontendKeys || name in queueKeys || /^(ring-ref|queue-)\d+$/.test(name);
}

/** The directory of a queue below the frontend's: none when it is the only one. */
export function queueDirectory(queue: number, queues: number): string {
  return queues === 1 ? '' : `queue-${queue}`;
}
