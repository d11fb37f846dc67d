/** XenbusState (public/io/xenbus.h): what the two ends of a device tell each other in their `state` nodes. */
export const XenbusState = {
  unknown: 0,
  initialising: 1,
  initWait: 2,
  initialised: 3,
  connected: 4,
  closing: 5,
  closed: 6,
  reconfiguring: 7,
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
