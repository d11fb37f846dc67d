import { setImmediate } from 'node:timers/promises';
import { ACCOUNTING_CLASSES } from '@xenpv/xen-block';
import { packageVersion } from '../../package-root.js';
import {
  BUILD_INFO_LABELS,
  DISK_INFO_LABELS,
  DISK_LABELS,
  DURATIONS,
  ERROR_LABELS,
  ERRORS,
  GUEST_LABELS,
  INFO,
  OF_DAEMON,
  OF_DISKS,
  OF_GUESTS,
  OF_OPERATIONS,
  OPERATION_LABELS,
} from './catalogue.js';
import { DISK_VALUES, GUEST_VALUES, type GuestFigures, type MeasuredDisk, OPERATION_VALUES } from './disk-values.js';
import { durations } from './durations.js';
import { eventLoopLag, processValues } from './process-values.js';
import { type Labels, labelText, MetricsText } from './text.js';

/** What the metrics tell of. */
export interface MetricsSource {
  disks(): Iterable<MeasuredDisk>;
  /** What guests that have disks have made the daemon do. */
  guests(): Iterable<GuestFigures>;
  daemon(): DaemonFigures;
}

/** What is known of the daemon itself. */
export interface DaemonFigures {
  readonly xenstoreConnected: boolean;
  /** Times that the connection was lost. */
  readonly xenstoreLosses: number;
  /** Lines of the log that could not be written. */
  readonly linesLost: number;
  /** Lines that were too many of their kind. */
  readonly linesSuppressed: number;
}

const OF_ONE = { ...OF_DISKS, ...OF_OPERATIONS, ...DURATIONS, ...ERRORS };

/**
 * All metrics. Nothing is kept from one scrape to the next: devices come and go. Each disk has a turn of the event loop, on
 * which rings are served.
 */
export async function scrape(source: MetricsSource): Promise<MetricsText> {
  const lag = await eventLoopLag();
  const text = new MetricsText();
  for (const families of [INFO, OF_ONE, OF_GUESTS, OF_DAEMON]) text.declare(families);
  addDaemon(text, source.daemon(), lag);
  for (const counters of source.guests()) {
    const labels = labelText(GUEST_LABELS, { domid: counters.domid });
    for (const [name, key] of entries(GUEST_VALUES)) text.add(name, labels, counters[key]);
  }
  for (const disk of source.disks()) {
    addDisk(text, disk);
    await setImmediate();
  }
  return text;
}

function addDaemon(text: MetricsText, figures: DaemonFigures, lag: number): void {
  const build = { version: packageVersion(), node: process.versions.node };
  text.add('xen_blockd_build_info', labelText(BUILD_INFO_LABELS, build), 1);
  const values: Record<keyof typeof OF_DAEMON, number | undefined> = {
    xen_blockd_xenstore_connected: Number(figures.xenstoreConnected),
    xen_blockd_xenstore_losses_total: figures.xenstoreLosses,
    xen_blockd_log_lines_lost_total: figures.linesLost,
    xen_blockd_log_lines_suppressed_total: figures.linesSuppressed,
    xen_blockd_event_loop_lag_seconds: lag,
    ...processValues(),
  };
  for (const [name, value] of entries(values)) text.add(name, '', value);
}

function addDisk(text: MetricsText, disk: MeasuredDisk): void {
  const { status, format, guest, uuid } = disk;
  const { device, domid, vdev, image, engine, statistics } = status;
  const labels: Labels = { device, domid, vdev, guest, uuid, image, format, engine };
  text.add('xen_blockd_disk_info', labelText(DISK_INFO_LABELS, labels), 1);
  const ofDisk = labelText(DISK_LABELS, labels);
  for (const [name, measure] of entries(DISK_VALUES)) text.add(name, ofDisk, measure(disk));
  for (const operation of ACCOUNTING_CLASSES) {
    const counted = statistics[operation];
    const both = labelText(OPERATION_LABELS, { ...labels, operation });
    for (const [name, key] of entries(OPERATION_VALUES)) text.add(name, both, counted[key]);
    for (const [errno, count] of Object.entries(counted.errors)) {
      const all = labelText(ERROR_LABELS, { ...labels, operation, errno });
      text.add('xen_blockd_storage_errors_total', all, count);
    }
    const { totalTimeNs, storageTimeNs } = counted;
    text.addHistogram('xen_blockd_request_duration_seconds', both, durations(counted, 'total', totalTimeNs));
    const storage = durations(counted, 'queued_to_completed', storageTimeNs);
    text.addHistogram('xen_blockd_storage_duration_seconds', both, storage);
  }
}

/** Object.entries, whose keys have the type that they have. */
function entries<K extends string, V>(record: Readonly<Record<K, V>>): [K, V][] {
  return Object.entries(record) as [K, V][];
}
