import { QmpError } from '@xenpv/qmp';
import type { BlockDevice, XenBlockBackend } from '@xenpv/xen-block';
import type { XenstoreClient } from '@xenpv/xenstore';
import type { BlockNodes } from './block-nodes.js';
import type { DeviceIds } from './device-ids.js';
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

/** What the commands of a control socket share. */
export interface ControlContext extends Controlled {
  readonly ids: DeviceIds;
  readonly nodes: BlockNodes;
}

/** All disks; none while the daemon starts. */
export function disksOf({ backend }: Controlled): BlockDevice[] {
  return [...(backend()?.devices ?? [])];
}

/** The disk that a client names, by what a client called it or see findDisk. Error: DeviceNotFound. */
export function namedDisk(controlled: ControlContext, name: string): BlockDevice {
  try {
    return findDisk(disksOf(controlled), controlled.ids.deviceOf(name), controlled.backend()?.ownDomid ?? 0);
  } catch (error) {
    throw QmpError.refusal((error as Error).message, 'DeviceNotFound');
  }
}
