import type { XenstoreClient } from '@xenpv/xenstore';
import { stateChannel } from './diagnostics.js';
import { errorCode, XenbusError } from './errors.js';
import type { KeyTexts, XenstoreValues } from './handler/handler.js';
import { backendPath, type DeviceAddress, domainPath } from './paths.js';
import type { DeviceView } from './reducer.js';
import { parseState, XenbusState } from './states.js';

/** Which nodes, and which of them matter. */
export interface DeviceNodesOptions {
  /** Reads both halves and writes the backend's. It stays open. */
  readonly store: XenstoreClient;
  /** The backend's domain. */
  readonly ownDomid: number;
  /** The backend's type, the frontend's domain and the device number: what the paths are made of. */
  readonly address: DeviceAddress;
  /** Connected waits for the hotplug script: libxl runs it only after it has seen InitWait. */
  readonly waitForHotplug: boolean;
}

/** The part of a {@link DeviceView} that the store says. */
export type DeviceReading = Pick<DeviceView, 'backend' | 'frontend' | 'online' | 'gated'>;

/** Thrown by {@link DeviceNodes.publish} when the directory is no longer as it was read: look again. */
export const STALE = new XenbusError('ERR_STALE', 'publish', 'the device changed since it was looked at');

/** What the bus itself follows. */
const OWN_KEYS: readonly string[] = ['state', 'online'];

/** One device in xenstore: what is read of both halves, what is written to the backend's. */
export class DeviceNodes {
  /** The backend's directory. */
  readonly path: string;
  readonly #options: DeviceNodesOptions;

  constructor(options: DeviceNodesOptions) {
    this.#options = options;
    this.path = backendPath(options.ownDomid, options.address);
  }

  /** Reads what decisions are based on. Without a frontend's directory its state is Unknown. */
  async read(frontendPath: string | undefined): Promise<DeviceReading> {
    const { store, waitForHotplug } = this.#options;
    const [state, online, frontend, hotplug, ...physical] = await Promise.all([
      store.tryRead(`${this.path}/state`),
      store.tryRead(`${this.path}/online`),
      frontendPath === undefined ? undefined : this.#readFrontendState(frontendPath),
      waitForHotplug ? store.tryRead(`${this.path}/hotplug-status`) : undefined,
      waitForHotplug ? store.tryRead(`${this.path}/physical-device`) : undefined,
      waitForHotplug ? store.tryRead(`${this.path}/physical-device-path`) : undefined,
    ]);
    return {
      backend: state === undefined ? undefined : parseState(state),
      frontend: parseState(frontend),
      online: online === '1',
      // Scripts say that they are done in different ways: XAPI's writes only the device's path.
      gated: waitForHotplug && hotplug !== 'connected' && physical.every((key) => key === undefined),
    };
  }

  /**
   * What keys of the directory hold; with undefined all of them but `state` and `online`. They are read one by one: in
   * the middle of a change some are old, and the change tells of itself afterwards.
   */
  async readTexts(keys: readonly string[] | undefined): Promise<KeyTexts> {
    const { store } = this.#options;
    const names = keys ?? ((await store.tryDirectory(this.path)) ?? []).filter((key) => !OWN_KEYS.includes(key));
    const texts = await Promise.all(names.map((key) => store.tryRead(`${this.path}/${key}`)));
    const entries = names.map((key, i) => [key, texts[i]] as const);
    return Object.fromEntries(entries.filter((entry): entry is readonly [string, string] => entry[1] !== undefined));
  }

  /** The frontend's directory. Throws EINVAL unless the toolstack named one of the frontend's own domain. */
  async readFrontendPath(): Promise<string> {
    const { store, address } = this.#options;
    const key = `${this.path}/frontend`;
    const path = await store.tryRead(key);
    const prefix = `${domainPath(address.domid)}/device/`;
    if (path?.startsWith(prefix)) return path;
    const what = path === undefined ? 'missing' : `"${path}"`;
    throw new XenbusError('EINVAL', 'prepare', `${key} is ${what}; expected a path below ${prefix}`, { path: key });
  }

  /**
   * Writes keys and state in one transaction, only if the directory is still there and the state still the one that
   * the decision was based on; throws {@link STALE} otherwise. With `next` undefined the state stays.
   */
  async publish(
    expected: XenbusState | undefined,
    next: XenbusState | undefined,
    values: XenstoreValues = {},
  ): Promise<void> {
    const { store, address } = this.#options;
    await store.transaction(async (tx) => {
      const text = await tx.tryRead(`${this.path}/state`);
      if (text === undefined || parseState(text) !== expected) throw STALE;
      const writes = Object.entries(values).map(([key, value]) => tx.write(`${this.path}/${key}`, value));
      if (next !== undefined) writes.push(tx.write(`${this.path}/state`, next));
      await Promise.all(writes);
    });
    if (next === undefined || !stateChannel.hasSubscribers) return;
    stateChannel.publish({ address, from: expected, to: next, values });
  }

  /** {@link update} of what differs; where nothing does nothing is written, and nobody is woken. */
  async updateChanged(values: XenstoreValues): Promise<void> {
    const there = await this.readTexts(Object.keys(values));
    const changed = Object.entries(values).filter(([key, value]) => there[key] !== textOf(value));
    if (changed.length > 0) await this.update(Object.fromEntries(changed));
  }

  /** {@link publish} for a device that is Connected; does nothing to one that is not any more. */
  async update(values: XenstoreValues): Promise<void> {
    await this.publish(XenbusState.connected, XenbusState.connected, values).catch((error) => {
      if (error !== STALE) throw error;
    });
  }

  /**
   * Deletes the directory, and the one of the frontend's domain above it if that is empty; throws {@link STALE} unless
   * the device is still offline and Closed.
   */
  async delete(): Promise<void> {
    const parent = this.path.slice(0, this.path.lastIndexOf('/'));
    await this.#options.store.transaction(async (tx) => {
      const [state, online] = await Promise.all([tx.tryRead(`${this.path}/state`), tx.tryRead(`${this.path}/online`)]);
      if (online === '1' || parseState(state) !== XenbusState.closed) throw STALE;
      await tx.remove(this.path);
      if ((await tx.tryDirectory(parent))?.length === 0) await tx.remove(parent);
    });
  }

  /** A frontend directory that may not be read counts as gone, like one that is deleted. */
  async #readFrontendState(path: string): Promise<string | undefined> {
    return this.#options.store.tryRead(`${path}/state`).catch((error) => {
      if (errorCode(error) === 'EACCES') return undefined;
      throw error;
    });
  }
}

/** A value as xenstore has it. */
function textOf(value: string | number | boolean): string {
  return typeof value === 'boolean' ? (value ? '1' : '0') : String(value);
}
