import type { KeySchema } from './key-values.js';

/** What a backend publishes before InitWait: how to reach it. Numbers of the ring are in the frontend's directory. */
export const transportKeys = {
  /** Segments of an indirect request; absent: none are taken. */
  'feature-max-indirect-segments': { type: 'uint', optional: true },
  'multi-queue-max-queues': { type: 'uint', default: 1 },
  'max-ring-page-order': { type: 'uint', default: 0 },
  /** The same in pages: the older spelling. */
  'max-ring-pages': { type: 'uint', default: 1 },
} as const satisfies KeySchema;

/** What a backend publishes before Connected: the disk. Sizes in bytes, `sectors` in units of 512 bytes. */
export const deviceKeys = {
  'feature-barrier': { type: 'boolean', default: false },
  'feature-flush-cache': { type: 'boolean', default: false },
  'feature-discard': { type: 'boolean', default: false },
  'discard-granularity': { type: 'uint', optional: true },
  'discard-alignment': { type: 'uint', default: 0 },
  'discard-secure': { type: 'boolean', default: false },
  'feature-persistent': { type: 'boolean', default: false },
  sectors: { type: 'uint64' },
  /** A bitmap of VdiskInfo. */
  info: { type: 'uint', default: 0 },
  'sector-size': { type: 'uint', default: 512 },
  /** Absent: as `sector-size`. */
  'physical-sector-size': { type: 'uint', optional: true },
} as const satisfies KeySchema;

/** All that a backend publishes for its frontend (io/blkif.h, "Backend XenBus Nodes"). */
export const backendKeys = { ...transportKeys, ...deviceKeys } as const satisfies KeySchema;

/** What a toolstack writes into the backend's directory for the backend. */
export const toolstackKeys = {
  frontend: { type: 'string' },
  'frontend-id': { type: 'domid' },
  online: { type: 'boolean', default: false },
  /** The vdev by name. */
  dev: { type: 'string', optional: true },
  /** What to serve: `format:target` from libxl. */
  params: { type: 'string', optional: true },
  type: { type: 'string', optional: true },
  /** Writable only when it contains a `w`. */
  mode: { type: 'string', optional: true },
  'device-type': { type: 'string', optional: true },
  removable: { type: 'boolean', default: false },
  bootable: { type: 'boolean', default: false },
  'direct-io-safe': { type: 'boolean', default: false },
  /** Absent: discard is offered when the storage can do it. */
  'discard-enable': { type: 'boolean', optional: true },
  specification: { type: 'string', optional: true },
  script: { type: 'string', optional: true },
  'hotplug-status': { type: 'string', optional: true },
  /** Of no toolstack: an operator's wish what is done when the storage fails a request. */
  'on-error': { type: 'string', optional: true },
  /** The same: what the disk may do in a second, and what all disks of its guest may do together. */
  limits: { type: 'string', optional: true },
  'guest-limits': { type: 'string', optional: true },
  /** The same: since when the disk takes no requests, an ISO date; absent: it takes them. */
  paused: { type: 'string', optional: true },
  'physical-device': { type: 'string', optional: true },
  'physical-device-path': { type: 'string', optional: true },
} as const satisfies KeySchema;

/** What a frontend publishes once for all its queues (io/blkif.h, "Frontend XenBus Nodes"). */
export const frontendKeys = {
  /** See abiOfProtocol. A string, so that the backend can say which one it does not know. */
  protocol: { type: 'string', optional: true },
  'ring-page-order': { type: 'uint', optional: true },
  /** The same in pages: the older spelling. */
  'num-ring-pages': { type: 'uint', optional: true },
  'multi-queue-num-queues': { type: 'uint', default: 1 },
  'feature-persistent': { type: 'boolean', default: false },
} as const satisfies KeySchema;

/** What a toolstack writes into the frontend's directory. */
export const frontendToolstackKeys = {
  backend: { type: 'string' },
  'backend-id': { type: 'domid' },
  'virtual-device': { type: 'uint', optional: true },
  'device-type': { type: 'string', optional: true },
  trusted: { type: 'boolean', default: true },
} as const satisfies KeySchema;

/**
 * What a frontend publishes for each queue: in its own directory when there is one queue, in `queue-N` for each of
 * several. The references of a ring of several pages are as `ring-ref`, by the names that {@link ringRefKeys} gives.
 */
export const queueKeys = {
  'event-channel': { type: 'uint' },
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
