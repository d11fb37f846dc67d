import { printable } from '@xenpv/xenbus';
import type { DiskReport } from './disks/device-status.js';
import {
  adviceOf,
  DISK_STATES,
  type DiskState,
  diskState,
  STATE_STYLES,
  stateSince,
  troubleOf,
} from './disks/disk-state.js';
import { formatBytes, formatDuration } from './format.js';
import { type Look, PLAIN } from './look.js';

/** What the daemon says of itself: the command `x-query-daemon`. */
export interface DaemonStatus {
  readonly version: string;
  readonly pid: number;
  /** When its process began, an ISO date. */
  readonly since: string;
  /** Backend types that it serves. */
  readonly types: readonly string[];
  /** False while it starts: nothing is served then. */
  readonly serving: boolean;
  /** The domain that it runs in; not there while it starts. */
  readonly domid?: number;
  /** Bytes that are in use by its process. */
  readonly memoryBytes: number;
  /** The file that was read; not there if there is none. */
  readonly configuration?: string;
}

/** The daemon and its disks in few words, for `xen-blockd status`. */
export interface Overview extends DaemonStatus {
  readonly socket: string;
  readonly disks: Readonly<Record<DiskState, number>>;
  readonly guests: number;
  /** What is wrong now, a line each. */
  readonly problems: readonly string[];
}

/** A request in flight for so long means storage that hangs, in milliseconds: the default of `stall-seconds`. */
const STALL_MS = 10_000;

export function overviewOf(daemon: DaemonStatus, disks: readonly DiskReport[], socket: string, now: number): Overview {
  const counts = Object.fromEntries(DISK_STATES.map((state) => [state, 0])) as Record<DiskState, number>;
  for (const disk of disks) counts[diskState(disk)]++;
  return {
    ...daemon,
    socket,
    disks: counts,
    guests: new Set(disks.map(({ domid }) => domid)).size,
    problems: [...(daemon.serving ? [] : ['it is starting']), ...disks.flatMap((disk) => problemsOf(disk, now))],
  };
}

function problemsOf(disk: DiskReport, now: number): string[] {
  const { device, guest, domid, vdev, oldestRequestMs } = disk;
  const name = `${device} (${guest ?? domid}:${vdev ?? '-'})`;
  const [state, trouble, since] = [diskState(disk), troubleOf(disk), stateSince(disk)];
  const problems: string[] = [];
  if (state === 'held' || state === 'stopped' || state === 'refused') {
    const time = since === undefined ? '' : ` for ${formatDuration(now - Date.parse(since))}`;
    problems.push(`${name} is ${state}${time}: ${trouble}; ${adviceOf(disk)}`);
  } else if (trouble !== undefined && state !== 'paused') problems.push(`${name}: ${trouble}`);
  if (oldestRequestMs >= STALL_MS) {
    problems.push(`${name}: a request is in flight for ${formatDuration(oldestRequestMs)}: its storage hangs`);
  }
  return problems;
}

/** `xen-blockd status`. */
export function formatOverview(overview: Overview, look: Look = PLAIN, now: number = Date.now()): string {
  const { version, pid, since, types, domid, disks, guests, memoryBytes, configuration, socket, problems } = overview;
  const total = DISK_STATES.reduce((sum, state) => sum + disks[state], 0);
  const states = DISK_STATES.filter((state) => disks[state] > 0).map((state) =>
    look.paint(STATE_STYLES[state], `${disks[state]} ${state}`),
  );
  const lines = [
    `${look.paint('strong', printable(version))}, pid ${pid}, since ${since}, for ${formatDuration(now - Date.parse(since))}`,
    `  serves         ${types.join(', ')}${domid === undefined ? '' : ` in domain ${domid}`}`,
    `  disks          ${total === 0 ? 'none' : `${total}: ${states.join(', ')}`}`,
    `  guests         ${guests}`,
    `  memory         ${formatBytes(memoryBytes)}`,
    `  configuration  ${printable(configuration ?? 'none: defaults')}`,
    `  socket         ${printable(socket)}`,
    `  wrong now      ${problems.length === 0 ? look.paint('good', 'nothing') : problems.length}`,
    ...problems.map((problem) => `    ${look.paint('bad', printable(problem))}`),
  ];
  return `${lines.join('\n')}\n`;
}
