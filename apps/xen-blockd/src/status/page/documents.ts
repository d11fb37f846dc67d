import { ACCOUNTING_CLASSES, type ClassStatistics, LATENCY_BUCKETS } from '@xenpv/xen-block';
import { printable } from '@xenpv/xenbus';
import type { DeviceStatus } from '../disks/device-status.js';
import { type DiskState, diskState, remedyOf, stateSince, troubleOf } from '../disks/disk-state.js';
import { percentile } from '../latency.js';
import type { DiskKeys } from './disk-keys.js';
import type { DiskHistory, Series } from './history.js';
import type { RecentError } from './recent-errors.js';

/** A disk, and what is known of its guest. */
export interface PageDisk {
  readonly status: DeviceStatus;
  readonly guest: string | undefined;
}

/** What the page and its JSON say of a disk: docs/page.md. Sizes are in bytes, dates in ISO's form; null is unknown or none. */
export interface DiskDocument {
  readonly device: string;
  readonly guest: string | null;
  readonly domid: number;
  readonly vdev: string | null;
  readonly type: string;
  readonly deviceType: string | null;
  readonly image: string | null;
  readonly format: string | null;
  readonly engine: string | null;
  readonly size: number | null;
  readonly readOnly: boolean | null;
  readonly state: DiskState;
  /** By the daemon's clock. */
  readonly since: string | null;
  /** Of the state; 0 where the clock was put back. */
  readonly stateSeconds: number | null;
  readonly why: string | null;
  /** A command that goes on with the disk. */
  readonly remedy: string | null;
  readonly inFlight: number;
  readonly oldestRequestMs: number;
  readonly failed: number;
  readonly now: { readonly iops: number | null; readonly bandwidth: number | null; readonly latency: number | null };
  readonly history: Series | null;
}

const NOTHING = { iops: null, bandwidth: null, latency: null };

/** `wall` is in milliseconds since 1970. */
export function diskDocument(
  { status, guest }: PageDisk,
  history: DiskHistory,
  { wall, whole = false }: { readonly wall: number; readonly whole?: boolean },
): DiskDocument {
  const { device, domid, type, size, readOnly, statistics, oldestRequestMs } = status;
  const since = stateSince(status);
  return {
    device,
    guest: text(guest),
    domid,
    vdev: text(status.vdev),
    type,
    deviceType: text(status.deviceType),
    image: text(status.image ?? (status.target || undefined)),
    format: text(status.format),
    engine: text(status.engine),
    size: size ?? null,
    readOnly: readOnly ?? null,
    state: diskState(status),
    since: since ?? null,
    stateSeconds: since === undefined ? null : Math.max(0, Math.round((wall - Date.parse(since)) / 1000)),
    why: text(troubleOf(status)),
    remedy: text(remedyOf(status)),
    inFlight: statistics.inFlight,
    oldestRequestMs,
    failed: ACCOUNTING_CLASSES.reduce((sum, name) => sum + statistics[name].failed, 0),
    now: history.latest(device) ?? NOTHING,
    history: (whole ? history.whole(device) : history.short(device)) ?? null,
  };
}

/** Requests of one class since the frontend connected, or the daemon began. */
interface OperationDocument {
  readonly operations: number;
  readonly bytes: number;
  readonly failed: number;
  readonly invalid: number;
  /** Microseconds within which half of the requests, and 99 of 100, were answered: ends of buckets. Null: none, or longer than all. */
  readonly p50: number | null;
  readonly p99: number | null;
  readonly errors: Readonly<Record<string, number>>;
  /** Requests by the time from their taking to their answer: bucket b ends at 2^b microseconds, the last one has no end. */
  readonly histogram: readonly number[];
}

/** All that is told of one disk. */
export interface WholeDiskDocument extends DiskDocument {
  readonly abi: string | null;
  readonly queues: number;
  readonly ringPages: number;
  readonly sectorSize: number | null;
  readonly limits: string;
  readonly guestLimits: string;
  readonly onError: string | null;
  readonly buckets: number;
  readonly operations: Readonly<Record<string, OperationDocument>>;
  readonly errors: readonly RecentError[];
  readonly keys: DiskKeys;
}

export function wholeDiskDocument(
  disk: PageDisk,
  history: DiskHistory,
  { wall, errors, keys }: { readonly wall: number; readonly errors: readonly RecentError[]; readonly keys: DiskKeys },
): WholeDiskDocument {
  const { status } = disk;
  const operations = ACCOUNTING_CLASSES.map((name) => [name, operationDocument(status.statistics[name])] as const);
  return {
    ...diskDocument(disk, history, { wall, whole: true }),
    abi: text(status.abi),
    queues: status.queues,
    ringPages: status.ringPages,
    sectorSize: status.sectorSize ?? null,
    limits: status.limits,
    guestLimits: status.guestLimits,
    onError: status.onError ?? null,
    buckets: LATENCY_BUCKETS,
    operations: Object.fromEntries(operations),
    errors,
    keys,
  };
}

function operationDocument({
  operations,
  bytes,
  failed,
  invalid,
  errors,
  latency,
}: ClassStatistics): OperationDocument {
  const within = (share: number) => {
    const end = percentile(latency.total, share);
    return end === undefined || end === Number.POSITIVE_INFINITY ? null : end;
  };
  return { operations, bytes, failed, invalid, p50: within(0.5), p99: within(0.99), errors, histogram: latency.total };
}

/** Text of a guest, without what would disturb a reader; markup in it is only text for JSON. */
function text(value: string | undefined): string | null {
  return value === undefined ? null : printable(value);
}
