import type { ClassStatistics } from '@xenpv/xen-block';
import type { GuestCounters } from '@xenpv/xenbus';
import type { DeviceStatus } from '../disks/device-status.js';
import type { OF_DISKS, OF_GUESTS, OF_OPERATIONS } from './catalogue.js';

/** A disk as the metrics tell of it. */
export interface MeasuredDisk {
  readonly status: DeviceStatus;
  /** As the toolstack says it: `raw`, `qcow2`. */
  readonly format: string | undefined;
  /** The guest's name and uuid, where they may be read. */
  readonly guest: string | undefined;
  readonly uuid: string | undefined;
  /** Failures of its storage helper. */
  readonly helperFailures: number;
}

/** The value of each metric of a disk; undefined is none. */
export const DISK_VALUES: Record<keyof typeof OF_DISKS, (disk: MeasuredDisk) => number | undefined> = {
  xen_blockd_connected: ({ status }) => Number(status.connected),
  xen_blockd_image_size_bytes: ({ status }) => status.size,
  xen_blockd_held: ({ status }) => Number(status.held !== undefined),
  xen_blockd_held_since_timestamp_seconds: ({ status }) => timestamp(status.held?.since),
  xen_blockd_stopped: ({ status }) => Number(status.stopped !== undefined),
  xen_blockd_stopped_since_timestamp_seconds: ({ status }) => timestamp(status.stopped?.since),
  xen_blockd_refused: ({ status }) => Number(status.refused !== undefined),
  xen_blockd_refused_since_timestamp_seconds: ({ status }) => timestamp(status.refused?.since),
  xen_blockd_paused: ({ status }) => Number(status.paused !== undefined),
  xen_blockd_paused_since_timestamp_seconds: ({ status }) => timestamp(status.paused),
  xen_blockd_orphaned: ({ status }) => Number(status.orphanedSince !== undefined),
  xen_blockd_requests_in_flight: ({ status }) => status.statistics.inFlight,
  xen_blockd_requests_waiting: ({ status }) => status.statistics.waiting,
  xen_blockd_requests_kept: ({ status }) => status.statistics.kept,
  xen_blockd_oldest_request_seconds: ({ status }) => status.oldestRequestMs / 1000,
  xen_blockd_buffer_bytes: ({ status }) => status.statistics.bufferBytes,
  xen_blockd_notifications_total: ({ status }) => status.statistics.notifications,
  xen_blockd_events_total: ({ status }) => status.statistics.events,
  xen_blockd_passes_total: ({ status }) => status.statistics.passes,
  xen_blockd_rings_overlooked_total: ({ status }) => status.statistics.overlooked,
  xen_blockd_requests_starved_total: ({ status }) => status.statistics.starved,
  xen_blockd_requests_unknown_total: ({ status }) => status.statistics.unknown,
  xen_blockd_storage_results_inexact_total: ({ status }) => status.statistics.inexact,
  xen_blockd_recovered_requests_total: ({ status }) => status.statistics.recovered,
  xen_blockd_throttled_seconds_total: ({ status }) => status.statistics.throttledTimeNs / 1e9,
  xen_blockd_helper_failures_total: ({ helperFailures }) => helperFailures,
};

/** Of each class of a disk's requests. */
export const OPERATION_VALUES: Record<keyof typeof OF_OPERATIONS, keyof ClassStatistics & CountOf<ClassStatistics>> = {
  xen_blockd_requests_total: 'operations',
  xen_blockd_bytes_total: 'bytes',
  xen_blockd_requests_failed_total: 'failed',
  xen_blockd_requests_invalid_total: 'invalid',
  xen_blockd_requests_merged_total: 'merged',
};

/** What a guest has made the daemon do in xenstore, and the lines of the log about its disks. */
export interface GuestFigures extends GuestCounters {
  readonly logLines: number;
  readonly logLinesSuppressed: number;
}

/** Of each guest. */
export const GUEST_VALUES: Record<keyof typeof OF_GUESTS, Exclude<keyof GuestFigures, 'domid'>> = {
  xen_blockd_watch_events_total: 'watchEvents',
  xen_blockd_watch_events_delayed_total: 'watchEventsDelayed',
  xen_blockd_reconnects_total: 'reconnects',
  xen_blockd_reconnects_delayed_total: 'reconnectsDelayed',
  xen_blockd_error_nodes_total: 'errorNodes',
  xen_blockd_error_nodes_delayed_total: 'errorNodesDelayed',
  xen_blockd_guest_log_lines_total: 'logLines',
  xen_blockd_guest_log_lines_suppressed_total: 'logLinesSuppressed',
};

type CountOf<T> = { [K in keyof T]: T[K] extends number ? K : never }[keyof T];

/** Seconds since 1970. */
function timestamp(date: string | undefined): number | undefined {
  return date === undefined ? undefined : Date.parse(date) / 1000;
}
