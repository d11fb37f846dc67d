import { channel } from 'node:diagnostics_channel';

/** Published on `xenstore:connection:lost` when a client has lost its connection; it connects again by itself. */
export interface ConnectionLostEvent {
  /** The connection: the path of its socket or device. */
  readonly description: string;
  readonly error: Error;
}

/** Published on `xenstore:connection:restored` when a client is connected again and its watches are registered. */
export interface ConnectionRestoredEvent {
  /** The connection: the path of its socket or device. */
  readonly description: string;
}

export const lostChannel = channel('xenstore:connection:lost');
export const restoredChannel = channel('xenstore:connection:restored');
