import type { Style } from '../look.js';
import type { DeviceStatus } from './device-status.js';
import type { StorageFailure } from './disk-errors.js';

/**
 * What a disk does, for an operator. `waiting`: for its frontend. `refused`: its guest does not get it, until it is
 * attached anew. `held`: its frontend is connected, and it cannot be served now. `stopped`: by an error of its storage, until
 * somebody says `resume`. `paused`: until somebody says `unpause`.
 */
export const DISK_STATES = ['connected', 'waiting', 'paused', 'refused', 'held', 'stopped'] as const;
export type DiskState = (typeof DISK_STATES)[number];

/** How each state looks on a terminal that has colours. */
export const STATE_STYLES: Readonly<Record<DiskState, Style>> = {
  connected: 'good',
  waiting: 'waiting',
  paused: 'waiting',
  refused: 'bad',
  held: 'waiting',
  stopped: 'bad',
};

export function diskState({ stopped, held, refused, paused, connected }: DeviceStatus): DiskState {
  if (stopped) return 'stopped';
  if (held) return 'held';
  if (refused) return 'refused';
  if (paused) return 'paused';
  return connected ? 'connected' : 'waiting';
}

/** Since when it is in its state. An older daemon does not say it of all. */
export function stateSince({ stopped, held, refused, paused, since }: DeviceStatus): string | undefined {
  return stopped?.since ?? held?.since ?? refused?.since ?? paused ?? since;
}

/** In words why a disk is not served, or is so though something is wrong; undefined for a disk that is well. */
export function troubleOf(status: DeviceStatus): string | undefined {
  const { stopped, held, refused, paused, orphanedSince, mediumTrouble } = status;
  if (stopped) return storageErrorText(stopped);
  if (held) return held.reason;
  if (refused) return refused.reason;
  if (paused) return 'somebody has paused it';
  if (orphanedSince !== undefined) return 'xenstored does not know it; it is served on';
  return mediumTrouble && `no medium: ${mediumTrouble}`;
}

/** A request that the storage failed, in words. */
export function storageErrorText({ operation, errno, offset, length }: Omit<StorageFailure, 'at'>): string {
  return `${errno} on ${operation}${length > 0 ? ` of ${length} bytes at ${offset}` : ''}`;
}

/** The command that goes on with a disk that is stopped, held or paused, to be typed when its trouble is mended. */
export function remedyOf({ device, stopped, held, refused, paused }: DeviceStatus): string | undefined {
  if (!stopped && !held) return !refused && paused ? `xen-blockd unpause ${device}` : undefined;
  // A reason that needs somebody's consent names the command with it.
  const [told] = /xen-blockd resume \S+( --[a-z-]+)+/.exec(held?.reason ?? '') ?? [];
  return told ?? `xen-blockd resume ${device}`;
}

/** What is to be done about a disk that is not served, in words. */
export function adviceOf(status: DeviceStatus): string | undefined {
  const { device, refused, image } = status;
  const remedy = remedyOf(status);
  if (remedy !== undefined) return `${diskState(status) === 'paused' ? '' : 'mend that, then: '}${remedy}`;
  if (!refused) return undefined;
  // Its image is open: it is what its guest's driver did.
  if (image !== undefined) return 'its guest has to connect to it anew';
  return `mend that, then attach it anew, after: xen-blockd detach ${device}`;
}
