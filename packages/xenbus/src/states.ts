import type { CustomField } from '@xenpv/xenstore';

/** XenbusState (public/io/xenbus.h): what the two ends of a device tell each other in their `state` nodes. */
export const XenbusState = {
  /** No state: the node is missing, or makes no sense. */
  unknown: 0,
  /** The toolstack has made the directory; the driver of this end has not begun, or begins anew. */
  initialising: 1,
  /** The backend has published what it offers, and waits for the frontend or the hotplug script. */
  initWait: 2,
  /** The frontend has published its rings and event channels, and waits for the backend. */
  initialised: 3,
  /** This end uses the rings. */
  connected: 4,
  /** This end is to close, after an error or an unplug. */
  closing: 5,
  /** This end has let go of the rings. A backend that is online still may be connected again. */
  closed: 6,
  /** The configuration of a connected device is being changed (PCI passthrough, XDP). Not used by block devices. */
  reconfiguring: 7,
  /** That change is done; Connected follows. Not used by block devices. */
  reconfigured: 8,
} as const;
export type XenbusState = (typeof XenbusState)[keyof typeof XenbusState];

const NAMES = [
  'Unknown',
  'Initialising',
  'InitWait',
  'Initialised',
  'Connected',
  'Closing',
  'Closed',
  'Reconfiguring',
  'Reconfigured',
] as const;

/** The field's name of a state: `InitWait`. */
export function stateName(state: XenbusState): string {
  return NAMES[state];
}

/** A `state` node's text as a state. Missing or anything that is not one of the nine numbers is Unknown. */
export function parseState(text: string | undefined): XenbusState {
  return text !== undefined && /^[0-8]$/.test(text) ? (Number(text) as XenbusState) : XenbusState.unknown;
}

/**
 * A `state` node in a schema of @xenpv/xenstore. As {@link parseState} it takes anything: what is no state is Unknown, and so
 * is one that is missing.
 *
 * @example
 * ```ts
 * import { stateField, XenbusState } from '@xenpv/xenbus';
 * import { readTree, XenstoreClient } from '@xenpv/xenstore';
 *
 * const store = await XenstoreClient.connect();
 * const { state } = await readTree(store, 'device/vbd/51712', { state: stateField });
 * console.log(state === XenbusState.connected);
 * ```
 */
export const stateField = {
  type: 'custom',
  expected: 'a state, 0 to 8',
  parse: parseState,
  default: XenbusState.unknown,
} as const satisfies CustomField<XenbusState>;
