import type { TreeSchema, TreeValues } from '@xenpv/xenstore';
import type { CallOptions, XenstoreValues } from '../handler/handler.js';
import type { Link } from './link.js';

/** What {@link PvDevice.prepare} gets. */
export interface PvPreparation<C extends TreeSchema = Record<never, never>> extends CallOptions {
  /** What the toolstack wrote into the backend's directory, by the schema of {@link ServePvOptions.config}. */
  readonly config: TreeValues<C>;
  /** A frontend may have chosen already from what the directory shows. */
  readonly offered: boolean;
}

/** What {@link PvDevice.connect} gets. */
export interface PvConnection<K extends TreeSchema> extends CallOptions {
  /** What the frontend wrote into its directory, by the schema of {@link ServePvOptions.keys}; read in one transaction. */
  readonly keys: TreeValues<K>;
  /** Its pages and event channels. */
  readonly link: Link;
  /**
   * Reads more of the frontend's directory, in one transaction: keys whose names follow from others (`ring-ref0` and so on),
   * or those of a directory below it. What is missing or makes no sense rejects, as it does for `keys`.
   */
  readonly readMore: <const T extends TreeSchema>(schema: T, below?: string) => Promise<TreeValues<T>>;
  /** The frontend was served before, by an earlier process perhaps, and must not notice: go on with what is in its pages. */
  readonly adopt: boolean;
}

/** Keys to publish in the backend's directory, or nothing. */
// biome-ignore lint/suspicious/noConfusingVoidType: who publishes nothing need not say so
type Published = XenstoreValues | undefined | void;

/**
 * What one writes for a new kind of backend: a class, one object of which serves one device. Only `connect` must be there.
 * The calls never overlap: prepare, then connect and disconnect any number of times, then close. What they throw becomes the
 * device's error node, and disturbs no other device.
 */
export interface PvDevice<K extends TreeSchema, C extends TreeSchema = Record<never, never>> {
  /** Opens what the device is made of. Returns the keys that are published with InitWait: what a frontend may choose from. */
  prepare?(options: PvPreparation<C>): Published | Promise<Published>;
  /** Takes the frontend's pages and ports and begins to serve. Returns the keys that are published with Connected. */
  connect(options: PvConnection<K>): Published | Promise<Published>;
  /** The toolstack's keys are others now. Also called once after `prepare`. */
  changed?(options: CallOptions & { readonly config: TreeValues<C> }): void | Promise<void>;
  /**
   * The connection ends; also called when `connect` failed. No listener is called any more; pages and ports can still be
   * used, and are taken back once this is done. With `leave` the frontend must not notice: it will be adopted.
   */
  disconnect?(options: { readonly leave: boolean }): void | Promise<void>;
  /** The device is over, or with `leave` waits for the next process. Frees what `prepare` opened. */
  close?(options: { readonly leave: boolean }): void | Promise<void>;
}
