import { channel } from 'node:diagnostics_channel';
import type { Domid } from '@xenpv/xen-sys';
import type { HeldDevice } from './holding/held-device.js';
import type { DeviceAddress } from './paths.js';
import type { XenbusState } from './states.js';

/** Published on `xenbus:device:state` whenever a backend writes its state. */
export interface DeviceStateEvent {
  /** Whose `state` was written: the backend's, in this domain. */
  readonly address: DeviceAddress;
  /** What `state` held before, by the same transaction; as `to` where only keys of a Connected device changed. */
  readonly from: XenbusState | undefined;
  /** What `state` holds now. */
  readonly to: XenbusState;
  /** The keys written in the same transaction. */
  readonly values: Readonly<Record<string, string | number | boolean>>;
}

/** Published on `xenbus:device:online` when the toolstack's wish that the device goes on changes. */
export interface DeviceOnlineEvent {
  /** Whose `online` node changed, in the backend's directory. */
  readonly address: DeviceAddress;
  /** True for `1`, false for all else and where there is no such node. */
  readonly online: boolean;
}

/** Published on `xenbus:bus:scan` when all devices of a type, or of one domain, are listed again. */
export interface BusScanEvent {
  /** The backend's type, below `backend/`: `qdisk`. */
  readonly type: string;
  /** Undefined for all domains. */
  readonly domid: Domid | undefined;
}

/** Published on `xenbus:device:error`. */
export interface DeviceErrorEvent {
  /** Undefined if it is none of one device: discovery, or a watch of it. */
  readonly address: DeviceAddress | undefined;
  /** As it was thrown or reported: a XenbusError, a XenstoreError, or anything that a handler throws. */
  readonly error: unknown;
}

/** Published on `xenbus:device:held` when a device begins to be held, and again for each other reason. */
export interface DeviceHeldEvent extends HeldDevice {
  /** The device, whose `state` stays Connected. */
  readonly address: DeviceAddress;
  /** What the last try threw, or what the handler gave to `hold`; `reason` is its message. */
  readonly error: unknown;
}

/** Published on `xenbus:device:hold-ended`. */
export interface HoldEndedEvent {
  /** The device, which is held no longer. */
  readonly address: DeviceAddress;
  /**
   * `served`: it is served again. `ended`: the frontend or the toolstack ended it. `left`: this process stops, and the next
   * one finds it.
   */
  readonly by: 'served' | 'ended' | 'left';
  /** How long it was held, in milliseconds. */
  readonly heldMs: number;
  /** Tries that failed. */
  readonly attempts: number;
}

/**
 * Published on `xenbus:device:orphaned` when xenstored has lost a device that is served, with the whole tree: it is served
 * on. And on `xenbus:device:known-again` when the tree is back.
 */
export interface DeviceOrphanedEvent {
  /** Where the device was before the tree was lost, and where it is looked for. */
  readonly address: DeviceAddress;
  /** Since when it is not in xenstore. */
  readonly since: Date;
}

/** Published on `xenbus:device:added` and `xenbus:device:removed`. */
export interface DeviceEvent {
  /** Where the bus has found a device, or finds none any more. */
  readonly address: DeviceAddress;
}

/** Published on `xenbus:device:frontend` when another state of the frontend is seen. */
export interface FrontendStateEvent {
  /** The device whose frontend it is. */
  readonly address: DeviceAddress;
  /** The frontend's `state`; Unknown where the node is missing, makes no sense, or may not be read. */
  readonly state: XenbusState;
}

export const onlineChannel = channel('xenbus:device:online');
export const scanChannel = channel('xenbus:bus:scan');
export const stateChannel = channel('xenbus:device:state');
export const errorChannel = channel('xenbus:device:error');
export const addedChannel = channel('xenbus:device:added');
export const removedChannel = channel('xenbus:device:removed');
export const heldChannel = channel('xenbus:device:held');
export const holdEndedChannel = channel('xenbus:device:hold-ended');
export const orphanedChannel = channel('xenbus:device:orphaned');
export const knownAgainChannel = channel('xenbus:device:known-again');
export const frontendChannel = channel('xenbus:device:frontend');
