import type { XenstoreClient } from '@xenpv/xenstore';
import type { DeviceAddress } from './paths.js';

/** Keys of a directory, relative to it, with their values. */
export type XenstoreValues = Readonly<Record<string, string | number | boolean>>;

/** What a backend gets to work with: one for each device. */
export interface BackendContext {
  readonly address: DeviceAddress;
  /** `vbd-5-51712`, for messages. */
  readonly name: string;
  readonly ownDomid: number;
  readonly backendPath: string;
  readonly frontendPath: string;
  readonly store: XenstoreClient;
  /**
   * Publishes changed keys and announces them by writing the state again, as every blkback does for a resize.
   * Does nothing unless the device is connected and its directory is still there.
   */
  update(values: XenstoreValues): Promise<void>;
  /** The device cannot go on (a broken ring, lost storage): error node and Closing. */
  fail(error: unknown): void;
}

/**
 * What one writes for a new kind of PV backend. The bus calls these one at a time, in the order of the device's
 * life: prepare, then connect and disconnect any number of times, then close. What they throw becomes the
 * device's error node.
 */
export interface BackendHandler {
  /** Opens what the device is made of. Returns the keys to publish with InitWait: what the frontend may choose from. */
  prepare(): Promise<XenstoreValues>;
  /**
   * Reads the frontend's choice, maps its rings, binds its event channels and begins to serve. With `adopt` the
   * frontend is using them and must not notice. Returns the keys to publish with Connected.
   */
  connect(options: { adopt: boolean }): Promise<XenstoreValues>;
  /** Ends serving: waits for what is in flight, unbinds, unmaps. Also called after a failed connect. */
  disconnect(): Promise<void>;
  /** A key of the backend's directory other than `state` and `online` was written. Must be cheap. */
  changed?(key: string): void;
  /**
   * Frees everything. `disconnect` was called before. With `leave` this process stops and the frontend waits for the
   * next one.
   */
  close(options: { leave: boolean }): Promise<void>;
}
