import { type Command, Option } from 'commander';
import type { DiskReport } from '../../status/disks/device-status.js';
import { DISK_STATES, type DiskState, diskState } from '../../status/disks/disk-state.js';

/** Which disks a command is about; all those for which each of them holds. */
export interface Filters {
  readonly guest?: string;
  readonly state?: DiskState;
  readonly held?: boolean;
}

/** The options that choose disks. */
export function addFilters(command: Command): Command {
  return command
    .option('--guest <domain>', 'only disks of the guest of this name or number')
    .addOption(new Option('--state <state>', 'only disks in this state').choices(DISK_STATES))
    .option('--held', 'only disks that are not served though their frontends are connected: held, or stopped');
}

/** Whether any disk is left out. */
export function isFiltering({ guest, state, held }: Filters): boolean {
  return guest !== undefined || state !== undefined || held === true;
}

/** The disks that the filters let through. */
export function chosen(disks: readonly DiskReport[], { guest, state, held }: Filters): readonly DiskReport[] {
  return disks.filter((disk) => {
    const is = diskState(disk);
    if (guest !== undefined && guest !== disk.guest && guest !== `${disk.domid}`) return false;
    if (state !== undefined && state !== is) return false;
    return !held || is === 'held' || is === 'stopped';
  });
}
