import type { Domid } from '@xenpv/xen-sys';
import type { XenstoreClient } from '@xenpv/xenstore';
import type { HeldDevice } from '../holding/held-device.js';
import type { DeviceAddress } from '../paths.js';

/** Keys of a directory, relative to it, with their values. */
export type XenstoreValues = Readonly<Record<string, string | number | boolean>>;

/** Keys to publish. Who has none returns nothing. */
export type PublishedKeys = Promise<XenstoreValues | undefined> | Promise<void>;

/** What keys of a directory hold, as text. A key that is not there is left out. */
export type KeyTexts = Readonly<Record<string, string>>;

/** What a backend gets to work with: one for each handler. Once the handler is closed, its functions do nothing. */
export interface BackendContext {
  /** The backend's type, the frontend's domain and the device number. */
  readonly address: DeviceAddress;
  /** `vbd-5-51712`, for messages. */
  readonly name: string;
  /** The backend's domain. */
  readonly ownDomid: Domid;
  /** The backend's directory: `/local/domain/0/backend/vbd/5/51712`. */
  readonly backendPath: string;
  /** The backend's `frontend` key, verified to be below `device/` of the frontend's own domain. */
  readonly frontendPath: string;
  /** The client of the bus, which all devices share: not to be closed here. */
  readonly store: XenstoreClient;
  /**
   * Publishes changed keys and announces them by writing the state again, as every blkback does for a resize.
   * Does nothing unless the device is connected and its directory is still there. What xenstored cannot take now is
   * written later: that is no error.
   */
  update(values: XenstoreValues): Promise<void>;
  /** The frontend did what it must not (an impossible ring): error node and Closing. For no fault of ours. */
  fail(error: unknown): void;
  /**
   * The device cannot be served any more, and its frontend did nothing wrong (lost storage, a lost thread): it is held.
   * The handler is disconnected and closed with `leave`; the state stays Connected, the error node says why, and another
   * handler is made and connected with `adopt`, after pauses that grow, until that works, or the frontend or the
   * toolstack ends the device. Does nothing unless the device is connected.
   */
  hold(error: unknown): void;
  /** Why the device is not served though its frontend is connected, or undefined. */
  readonly held: HeldDevice | undefined;
  /** Since when xenstored does not know the device, which is served on; or undefined. */
  readonly orphanedSince: Date | undefined;
  /** A held device is tried again now, and not only when its pause is over. */
  retry(): void;
  /** Tells of an error that the device goes on with: error node and channel. */
  report(error: unknown): void;
}

/** What a call gets that may have to be given up. */
export interface CallOptions {
  /**
   * Aborted when the call is not wanted any more: the toolstack removed the device, the frontend went, or the bus
   * closes. The call should then reject soon. One that does not is left behind: when it ends after all, its handler is
   * disconnected and closed.
   */
  readonly signal: AbortSignal;
}

/**
 * What one writes for a new kind of PV backend. The bus calls these one at a time, in the order of the device's
 * life: prepare, then connect and disconnect any number of times, then close. What they throw becomes the
 * device's error node, and disturbs no other device. What xenstored could not do (see `isXenstoreTrouble`) is tried again:
 * that is no fault of the device. A device that was Connected before, by this process or an earlier one, is held whatever
 * they throw, see {@link BackendContext.hold}.
 */
export interface BackendHandler {
  /** The keys of the backend's directory that {@link changed} is told of; all but `state` and `online` when not given. */
  readonly keys?: readonly string[] | undefined;
  /**
   * Opens what the device is made of. Returns the keys to publish with InitWait: what the frontend may choose from. With
   * `offered` the state stays as it is: the frontend may have chosen already, from what the directory shows.
   */
  prepare(options: CallOptions & { readonly offered: boolean }): PublishedKeys;
  /** InitWait is about to be written again, for another connection. Returns the keys to publish with it; none when not given. */
  offer?(): XenstoreValues;
  /**
   * Reads the frontend's choice, maps its rings, binds its event channels and begins to serve. With `adopt` the
   * frontend is using them and must not notice. Returns the keys to publish with Connected.
   */
  connect(options: CallOptions & { readonly adopt: boolean }): PublishedKeys;
  /**
   * Ends serving: waits for what is in flight, unbinds, unmaps. Also called after a failed connect. With `leave` the
   * frontend must not notice: it is served again, by another handler or another process. A handler that throws here is
   * closed, and another one is made when the frontend comes back.
   */
  disconnect(options: { readonly leave: boolean }): Promise<void>;
  /**
   * What {@link keys} hold now: told once after `prepare`, and again whenever a look finds other values, however they
   * came about. So it compares them with what it has, and does nothing if they are the same.
   */
  changed?(values: KeyTexts, options: CallOptions): Promise<void> | void;
  /**
   * Frees everything, whatever was called before. `disconnect` was called before. With `leave` the frontend waits for
   * another handler, or the next process.
   */
  close(options: { readonly leave: boolean }): Promise<void>;
}
