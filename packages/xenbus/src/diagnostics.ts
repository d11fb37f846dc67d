import { channel } from 'node:diagnostics_channel';
import type { DeviceAddress } from './paths.js';
import type { XenbusState } from './states.js';

/** Published on `xenbus:device:state` whenever a backend writes its state. */
export interface DeviceStateEvent {
  readonly address: DeviceAddress;
  readonly from: XenbusState | undefined;
  readonly to: XenbusState;
  /** The keys written in the same transaction. */
  readonly values: Readonly<Record<string, string | number | boolean>>;
}

/** Published on `xenbus:device:online` when the toolstack's wish that the device goes on changes. */
export interface DeviceOnlineEvent {
  readonly address: DeviceAddress;
  readonly online: boolean;
}

/** Published on `xenbus:bus:scan` when all devices of a type, or of one domain, are listed again. */
export interface BusScanEvent {
  readonly type: string;
  /** Undefined for all domains. */
  readonly domid: number | undefined;
}

/** Published on `xenbus:device:error`. */
export interface DeviceErrorEvent {
  /** Undefined if it is none of one device: discovery, or a watch of it. */
  readonly address: DeviceAddress | undefined;
  readonly error: unknown;
}

/** Published on `xenbus:device:added` and `xenbus:device:removed`. */
export interface DeviceEvent {
  readonly address: DeviceAddress;
}

/** Published on `xenbus:device:frontend` when another state of the frontend is seen. */
export interface FrontendStateEvent {
  readonly address: DeviceAddress;
  readonly state: XenbusState;
}

export const onlineChannel = channel('xenbus:device:online');
export const scanChannel = channel('xenbus:bus:scan');
export const stateChannel = channel('xenbus:device:state');
export const errorChannel = channel('xenbus:device:error');
export const addedChannel = channel('xenbus:device:added');
export const removedChannel = channel('xenbus:device:removed');
export const frontendChannel = channel('xenbus:device:frontend');
