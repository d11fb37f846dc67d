import type { DeviceStatus } from './device-status.js';
import type { Style } from './look.js';

/**
 * What a disk does, for an operator. `waiting`: for its frontend. `held`: its frontend is connected, and it cannot be
 * served now. `stopped`: by an error of its storage, until somebody says `resume`. `paused`: until somebody says `unpause`.
 */
export const DISK_STATES = ['connected', 'waiting', 'paused', 'held', 'stopped'] as const;
export type DiskState = (typeof DISK_STATES)[number];

/** How each state looks on a terminal that has colours. */
export const STATE_STYLES: Readonly<Record<DiskState, Style>> = {
  connected: 'good',
  waiting: 'waiting',
  paused: 'waiting',
  held: 'waiting',
  stopped: 'bad',
};

export function diskState({ stopped, held, paused, connected }: DeviceStatus): DiskState {
  if (stopped) return 'stopped';
  if (held) return 'held';
  if (paused) return 'paused';
  return connected ? 'connected' : 'waiting';
}

/** Since when it is in its state. An older daemon does not say it of all. */
export function stateSince({ stopped, held, paused, since }: DeviceStatus): string | undefined {
  return stopped?.since ?? held?.since ?? paused ?? since;
}

/** In words why a disk is not served, or is so though something is wrong; undefined for a disk that is well. */
export function troubleOf({ stopped, held, paused, orphanedSince, mediumTrouble }: DeviceStatus): string | undefined {
  if (stopped) {
    const { operation, errno, offset, length } = stopped;
    return `${errno} on ${operation}${length > 0 ? ` of ${length} bytes at ${offset}` : ''}`;
  }
  if (held) return held.reason;
  if (paused) return 'somebody has paused it';
  if (orphanedSince !== undefined) return 'xenstored does not know it; it is served on';
  return mediumTrouble && `no medium: ${mediumTrouble}`;
}

/** The command that goes on with a disk that is stopped, held or paused, to be typed when its trouble is mended. */
export function remedyOf({ device, stopped, held, paused }: DeviceStatus): string | undefined {
  if (!stopped && !held) return paused && `xen-blockd unpause ${device}`;
  // A reason that needs somebody's consent names the command with it.
  const [told] = /xen-blockd resume \S+( --[a-z-]+)+/.exec(held?.reason ?? '') ?? [];
  return told ?? `xen-blockd resume ${device}`;
}
