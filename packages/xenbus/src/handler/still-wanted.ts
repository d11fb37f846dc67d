import type { DeviceReading } from '../device-nodes.js';
import { XenbusState } from '../states.js';

/** Tells, by what the store says now, whether a call is still wanted. */
export type StillWanted = (reading: DeviceReading) => boolean;

/** A device is prepared while the toolstack has it as it was, and its frontend is not deleted. */
export function stillPrepares(before: DeviceReading): StillWanted {
  let frontendWasThere = false;
  return (now) => {
    const frontendWent = frontendWasThere && now.frontend === XenbusState.unknown;
    frontendWasThere ||= now.frontend !== XenbusState.unknown;
    return isWishedAs(before, now) && !frontendWent;
  };
}

/** A frontend is connected while it waits for that, or is connected itself. */
export function stillConnects(before: DeviceReading): StillWanted {
  return (now) => {
    const isWaiting = now.frontend === XenbusState.initialised || now.frontend === XenbusState.connected;
    return isWishedAs(before, now) && isWaiting;
  };
}

/** Changed keys are looked at while both ends are as they were. */
export function stillTells(before: DeviceReading): StillWanted {
  return (now) => isWishedAs(before, now) && now.frontend === before.frontend;
}

function isWishedAs(before: DeviceReading, now: DeviceReading): boolean {
  return now.backend === before.backend && now.online === before.online;
}
