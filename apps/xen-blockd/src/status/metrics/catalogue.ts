/**
 * Every metric of the daemon: docs/metrics.md is made from this file, which imports nothing. Names and units are as
 * Prometheus asks for: seconds, bytes, `_total` for what only grows.
 */

/** What a scrape says of a metric before its values. */
export interface MetricFamily {
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
}

type Families = Readonly<Record<string, MetricFamily>>;

/** The labels of a disk; they are the same in each of its metrics. */
export const DISK_LABELS = ['device', 'domid', 'vdev'] as const;

/** What a disk is. One value for each disk, always 1: a domid is another one after each boot, a name is not. */
export const DISK_INFO_LABELS = [...DISK_LABELS, 'guest', 'uuid', 'image', 'format', 'engine'] as const;

/** The version of what runs. */
export const BUILD_INFO_LABELS = ['version', 'node'] as const;

/** Whose value is 1, for what their labels say. */
export const INFO = {
  xen_blockd_disk_info: {
    type: 'gauge',
    help: 'What a disk is, always 1; guest and uuid are empty where they may not be read',
  },
  xen_blockd_build_info: { type: 'gauge', help: 'What runs, always 1' },
} as const satisfies Families;

/** Of each disk. */
export const OF_DISKS = {
  xen_blockd_connected: { type: 'gauge', help: 'Whether a frontend is served (0 or 1)' },
  xen_blockd_image_size_bytes: { type: 'gauge', help: 'Size of the image; no value for a drive without a medium' },
  xen_blockd_held: {
    type: 'gauge',
    help: 'Whether the disk cannot be served now, and its connected frontend waits (0 or 1)',
  },
  xen_blockd_held_since_timestamp_seconds: { type: 'gauge', help: 'Since when it is held; no value while it is not' },
  xen_blockd_stopped: { type: 'gauge', help: 'Whether an error of the storage has stopped the disk (0 or 1)' },
  xen_blockd_stopped_since_timestamp_seconds: {
    type: 'gauge',
    help: 'Since when it is stopped; no value while it is not',
  },
  xen_blockd_refused: { type: 'gauge', help: 'Whether the guest does not get the disk, because of an error (0 or 1)' },
  xen_blockd_refused_since_timestamp_seconds: {
    type: 'gauge',
    help: 'Since when it is refused; no value while it is not',
  },
  xen_blockd_paused: { type: 'gauge', help: 'Whether somebody has paused the disk (0 or 1)' },
  xen_blockd_paused_since_timestamp_seconds: {
    type: 'gauge',
    help: 'Since when it is paused; no value while it is not',
  },
  xen_blockd_orphaned: { type: 'gauge', help: 'Whether xenstored has lost the disk, which is served on (0 or 1)' },
  xen_blockd_requests_in_flight: { type: 'gauge', help: 'Requests taken and not answered' },
  xen_blockd_requests_waiting: {
    type: 'gauge',
    help: "Requests in flight that wait for the disk's share of memory or its guest's turn",
  },
  xen_blockd_requests_kept: { type: 'gauge', help: 'Failed requests that are kept until the disk is resumed' },
  xen_blockd_oldest_request_seconds: { type: 'gauge', help: 'Age of the oldest request in flight' },
  xen_blockd_buffer_bytes: { type: 'gauge', help: 'Buffer memory that requests in flight have' },
  xen_blockd_notifications_total: { type: 'counter', help: 'Events sent to the frontend' },
  xen_blockd_events_total: { type: 'counter', help: 'Events received from the frontend' },
  xen_blockd_passes_total: { type: 'counter', help: 'Times that a ring was looked at and had requests' },
  xen_blockd_rings_overlooked_total: {
    type: 'counter',
    help: 'Times that a ring had requests and nobody looked at it for a second',
  },
  xen_blockd_requests_starved_total: { type: 'counter', help: 'Requests that had to wait for buffer memory' },
  xen_blockd_requests_unknown_total: { type: 'counter', help: 'Requests of no known operation' },
  xen_blockd_storage_results_inexact_total: {
    type: 'counter',
    help: 'Results of the storage that were neither the length asked for nor an error, or came twice',
  },
  xen_blockd_recovered_requests_total: {
    type: 'counter',
    help: 'Requests that an earlier process took and did not answer, carried out again',
  },
  xen_blockd_throttled_seconds_total: {
    type: 'counter',
    help: 'Time that rings had requests which a limit did not let them take, summed',
  },
  xen_blockd_helper_failures_total: {
    type: 'counter',
    help: "Ends and failed starts of the disk's qemu-storage-daemon, which is started again; 0 for raw images. In a long row told at 1, 2, 4, 8 and so on",
  },
} as const satisfies Families;

/** Of each disk and class of requests. */
export const OPERATION_LABELS = [...DISK_LABELS, 'operation'] as const;
export const OF_OPERATIONS = {
  xen_blockd_requests_total: { type: 'counter', help: 'Requests answered with OKAY' },
  xen_blockd_bytes_total: { type: 'counter', help: 'Bytes moved' },
  xen_blockd_requests_failed_total: { type: 'counter', help: 'Requests that storage or grants failed' },
  xen_blockd_requests_invalid_total: { type: 'counter', help: 'Requests refused' },
  xen_blockd_requests_merged_total: { type: 'counter', help: 'Requests joined with a neighbour' },
} as const satisfies Families;

/** Times of each disk and class; estimated from some requests where reading the clock is dear. */
export const DURATIONS = {
  xen_blockd_request_duration_seconds: { type: 'histogram', help: 'Time of a request from taken to answered' },
  xen_blockd_storage_duration_seconds: {
    type: 'histogram',
    help: 'The part of that for which the storage had the request',
  },
} as const satisfies Families;

/** Of each disk, class and errno that has occurred. */
export const ERROR_LABELS = [...OPERATION_LABELS, 'errno'] as const;
export const ERRORS = {
  xen_blockd_storage_errors_total: {
    type: 'counter',
    help: 'Requests that the storage failed, those too that were kept and done again',
  },
} as const satisfies Families;

/** Of each guest that has disks: what it makes the daemon do. */
export const GUEST_LABELS = ['domid'] as const;
export const OF_GUESTS = {
  xen_blockd_watch_events_total: { type: 'counter', help: "Watch events of the guest's frontends" },
  xen_blockd_watch_events_delayed_total: {
    type: 'counter',
    help: 'Watch events that came too fast, and were looked at with later ones',
  },
  xen_blockd_reconnects_total: { type: 'counter', help: 'Connections of disks that had been connected before' },
  xen_blockd_reconnects_delayed_total: {
    type: 'counter',
    help: 'Reconnections that came too fast, and had to wait',
  },
  xen_blockd_error_nodes_total: { type: 'counter', help: 'Writes of error nodes' },
  xen_blockd_error_nodes_delayed_total: {
    type: 'counter',
    help: 'Writes of error nodes that came too fast, and waited for later ones',
  },
  xen_blockd_guest_log_lines_total: { type: 'counter', help: "Lines of the log about the guest's disks" },
  xen_blockd_guest_log_lines_suppressed_total: {
    type: 'counter',
    help: "Lines about the guest's disks left out of the log, too many of one kind or of all",
  },
} as const satisfies Families;

/** Of the daemon, without labels. */
export const OF_DAEMON = {
  xen_blockd_xenstore_connected: { type: 'gauge', help: 'Whether xenstored can be reached (0 or 1)' },
  xen_blockd_xenstore_losses_total: { type: 'counter', help: 'Times that the connection to xenstored was lost' },
  xen_blockd_log_lines_lost_total: { type: 'counter', help: 'Lines of the log that could not be written' },
  xen_blockd_log_lines_suppressed_total: {
    type: 'counter',
    help: 'Lines of the log left out, too many of one kind',
  },
  xen_blockd_event_loop_lag_seconds: {
    type: 'gauge',
    help: 'How long the main thread took to come to this scrape',
  },
  process_cpu_user_seconds_total: { type: 'counter', help: 'Processor time of all threads in user mode' },
  process_cpu_system_seconds_total: { type: 'counter', help: 'Processor time of all threads in the kernel' },
  process_cpu_seconds_total: { type: 'counter', help: 'Processor time of all threads' },
  process_resident_memory_bytes: { type: 'gauge', help: 'Memory that the process has in RAM' },
  process_start_time_seconds: { type: 'gauge', help: 'When the process started' },
  process_open_fds: { type: 'gauge', help: 'Open file descriptors' },
  process_max_fds: { type: 'gauge', help: 'How many file descriptors may be open' },
} as const satisfies Families;
