import { XenbusState } from './states.js';

/** What the store says of one device, and what this process holds of it. */
export interface DeviceView {
  /** The backend's own `state`, or undefined if the node is gone: the toolstack removed the device. */
  readonly backend: XenbusState | undefined;
  /** The frontend's `state`; Unknown when it or its directory is gone. */
  readonly frontend: XenbusState;
  /** The backend's `online`: whether the toolstack wants the device to go on after a disconnect. */
  readonly online: boolean;
  /** Whether the hotplug script may still be running, so that Connected must wait (libxl's vbd and vbd3). */
  readonly gated: boolean;
  /** Whether this process has opened the device and published its keys. */
  readonly prepared: boolean;
  /** Whether this process serves the frontend's rings. */
  readonly connected: boolean;
  /** Whether the frontend was connected and cannot be served now, for a reason that may pass. */
  readonly held: boolean;
  /** Whether the device could not be opened, and Closing was written: nothing is tried again until it is removed. */
  readonly failed: boolean;
  /** Whether `remove` was carried out; the directory is still there until the toolstack deletes it. */
  readonly removed: boolean;
}

/** What to do next. `state` is written together with the keys that belong to it, in one transaction. */
export type DeviceAction =
  /** Nothing until something changes. */
  | { readonly do: 'wait' }
  /** Open the device; publish its transport keys. Then write `state`, or with undefined leave it as it is. */
  | { readonly do: 'prepare'; readonly state: XenbusState | undefined }
  /**
   * Read the frontend's keys, map its rings, publish the device keys and Connected. With `adopt` both ends are
   * Connected, by an earlier process, and the frontend must not notice.
   */
  | { readonly do: 'connect'; readonly adopt: boolean }
  /** Stop serving the frontend, then write `state`. */
  | { readonly do: 'disconnect'; readonly state: XenbusState }
  /** Only write `state`. */
  | { readonly do: 'setState'; readonly state: XenbusState }
  /** The toolstack is done with the device: release everything; in a driver domain remove the directory. */
  | { readonly do: 'remove' }
  /** The directory is gone: release everything and write nothing. */
  | { readonly do: 'forget' };

const WAIT: DeviceAction = { do: 'wait' };
const S = XenbusState;

/**
 * The xenbus state machine of a backend (public/io/xenbus.h), as QEMU's xen-bus and Linux's xen-blkback together define
 * it: pure, and level triggered.
 *
 * In comes what is so now; how it came to be so does not matter, so that lost and merged watch events change nothing.
 * The frontend's state is a guest's: any of the nine, in any order, at any time. The caller reads everything again
 * after each action and asks once more, until it is told to wait; while nothing else changes, that takes a few actions.
 * A missing directory is never written to, a device that is offline is never opened or connected, and Connected never
 * overtakes the hotplug script, except to adopt a device that was Connected before. A held device is left Connected until
 * its frontend or the toolstack ends it: whoever asks decides when to try again.
 */
export function nextAction(view: DeviceView): DeviceAction {
  if (view.backend === undefined) return { do: 'forget' };
  if (!view.online && !view.connected) return finish(view);
  switch (view.backend) {
    case S.unknown:
    case S.initialising:
      return initialise();
    case S.closing:
      return close(view);
    case S.closed:
      return reopen(view);
    default:
      return serve(view);
  }
}

/** Offline and serving nobody: Closed, then released. */
function finish(view: DeviceView): DeviceAction {
  if (view.backend !== S.closed) return { do: 'disconnect', state: S.closed };
  return view.removed ? WAIT : { do: 'remove' };
}

/** Also when this process could not open the device: it wrote Closing then, so this is a new one by the same name. */
function initialise(): DeviceAction {
  return { do: 'prepare', state: S.initWait };
}

/** InitWait and Connected: follow the frontend. */
function serve(view: DeviceView): DeviceAction {
  if (view.failed) return { do: 'disconnect', state: S.closing };
  if (view.held && view.backend === S.connected) return serveHeld(view);
  if (!view.prepared) return { do: 'prepare', state: undefined };
  switch (view.frontend) {
    case S.initialised:
    case S.connected:
      return connect(view);
    case S.closing:
      return { do: 'setState', state: S.closing };
    case S.closed:
    case S.unknown:
      return { do: 'disconnect', state: S.closed };
    case S.initialising:
      // A frontend that began anew without closing (a crash kernel): its old rings are dead.
      return view.connected || view.backend === S.connected ? { do: 'disconnect', state: S.initWait } : WAIT;
    default:
      return WAIT;
  }
}

/** Connected, and served by nobody for now. */
function serveHeld(view: DeviceView): DeviceAction {
  switch (view.frontend) {
    case S.closing:
      return { do: 'setState', state: S.closing };
    case S.closed:
    case S.unknown:
      return { do: 'disconnect', state: S.closed };
    case S.initialising:
      return { do: 'prepare', state: S.initWait };
    default:
      return WAIT;
  }
}

function connect(view: DeviceView): DeviceAction {
  if (view.connected && view.backend === S.connected) return WAIT;
  // Connected already, though not by this process: an earlier one left the rings as they are.
  if (view.backend === S.connected) return { do: 'connect', adopt: view.frontend === S.connected };
  if (view.gated) return WAIT;
  return { do: 'connect', adopt: false };
}

/** Closing: a live frontend is waited for; without one the answer is Closed at once. */
function close(view: DeviceView): DeviceAction {
  const alive = view.frontend >= S.initWait && view.frontend <= S.closing;
  return alive ? WAIT : { do: 'disconnect', state: S.closed };
}

/** Closed: a frontend that comes back is served again while the toolstack says online. */
function reopen(view: DeviceView): DeviceAction {
  if (view.connected || view.held) return { do: 'disconnect', state: S.closed };
  if (view.failed) return WAIT;
  switch (view.frontend) {
    case S.initialising:
      return view.prepared ? { do: 'setState', state: S.initWait } : { do: 'prepare', state: S.initWait };
    case S.initialised:
    case S.connected:
      if (!view.prepared) return { do: 'prepare', state: undefined };
      return connect(view);
    case S.closing:
      return { do: 'setState', state: S.closing };
    default:
      return WAIT;
  }
}
