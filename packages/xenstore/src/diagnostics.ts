import { channel } from 'node:diagnostics_channel';

/** A client lost its connection: `{ description, error }`. */
export const lostChannel = channel('xenstore:connection:lost');
/** A client is connected again, its watches are registered: `{ description }`. */
export const restoredChannel = channel('xenstore:connection:restored');
