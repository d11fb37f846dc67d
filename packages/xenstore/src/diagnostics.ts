import { channel } from 'node:diagnostics_channel';

/** Published on `xenstore:connection:lost` when a client has lost its connection, whether or not it connects again. */
export interface ConnectionLostEvent {
  /** The connection: the path of its socket or device. */
  readonly description: string;
  /** A XenstoreError: ERR_CLOSED, or ERR_PROTOCOL for a daemon that sent what the protocol does not allow. */
  readonly error: Error;
}

/** Published on `xenstore:connection:restored` when a client is connected again and its watches are registered. */
export interface ConnectionRestoredEvent {
  /** The connection: the path of its socket or device. */
  readonly description: string;
}

export const lostChannel = channel('xenstore:connection:lost');
export const restoredChannel = channel('xenstore:connection:restored');
