import { channel } from 'node:diagnostics_channel';
import type { DeviceAddress } from '@xenpv/xenbus';

/** Published on `xen-block:request:refused`, at most once a second for each ring and reason. */
export interface RequestRefusedEvent {
  readonly address: DeviceAddress;
  /** In words. */
  readonly reason: string;
  /** How many since the last time. */
  readonly count: number;
}

/** Published on `xen-block:device:connected`. */
export interface DeviceConnectedEvent {
  readonly address: DeviceAddress;
  readonly abi: string;
  readonly queues: number;
  /** Slots of each ring. */
  readonly ringSlots: number;
  readonly persistent: boolean;
  readonly reattached: boolean;
}

/** Published on `xen-block:device:resized`. */
export interface DeviceResizedEvent {
  readonly address: DeviceAddress;
  /** 512-byte sectors. */
  readonly from: number;
  readonly to: number;
}

/** Published on `xen-block:device:medium` when a drive gets another medium, or none. */
export interface DeviceMediumEvent {
  readonly address: DeviceAddress;
  readonly target: string;
  readonly error?: unknown;
}

export const refusedChannel = channel('xen-block:request:refused');
export const connectedChannel = channel('xen-block:device:connected');
export const resizedChannel = channel('xen-block:device:resized');
export const mediumChannel = channel('xen-block:device:medium');
