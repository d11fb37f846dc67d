import { QmpError } from '@xenpv/qmp';
import type { BlockDevice, XenBlockBackend } from '@xenpv/xen-block';
import type { XenstoreClient } from '@xenpv/xenstore';
import { findDisk } from './find-disk.js';

/** What serves: undefined parts while the daemon starts. */
export interface Controlled {
  readonly version: string;
  /** Backend types that are served. */
  readonly types: readonly string[];
  readonly backend: () => XenBlockBackend | undefined;
  readonly store: () => XenstoreClient | undefined;
  /** The process ends as after SIGTERM. */
  readonly quit: () => void;
}

/** All disks; none while the daemon starts. */
export function disksOf({ backend }: Controlled): BlockDevice[] {
  return [...(backend()?.devices ?? [])];
}

/** The disk that a client names, see findDisk. Error: DeviceNotFound. */
export function namedDisk(controlled: Controlled, name: string): BlockDevice {
  try {
    return findDisk(disksOf(controlled), name, controlled.backend()?.ownDomid ?? 0);
  } catch (error) {
    throw QmpError.refusal((error as Error).message, 'DeviceNotFound');
  }
}
