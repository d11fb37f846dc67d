import type { Watch, XenstoreClient } from '@xenpv/xenstore';
import { removeErrorNode, writeErrorNode } from './error-node.js';
import { XenbusError } from './errors.js';
import { errorChannel, frontendChannel, onlineChannel, stateChannel } from './events.js';
import type { BackendContext, BackendHandler, XenstoreValues } from './handler.js';
import { backendPath, type DeviceAddress, deviceName, domainPath } from './paths.js';
import { type DeviceAction, type DeviceView, nextAction } from './reducer.js';
import { parseState, XenbusState } from './states.js';

/** How the bus makes a backend for a device that the toolstack created. */
export type HandlerFactory = (context: BackendContext) => BackendHandler;

export interface BackendDeviceOptions {
  readonly store: XenstoreClient;
  readonly ownDomid: number;
  readonly address: DeviceAddress;
  readonly createHandler: HandlerFactory;
  /** Connected waits for the hotplug script: libxl runs it only after it has seen InitWait. */
  readonly waitForHotplug: boolean;
  /** In a driver domain libxl expects the backend to delete its own directory. */
  readonly removeDirectory: boolean;
  /** Called once, when the device's directory is gone and everything is released. */
  readonly onGone: (device: BackendDevice) => void;
}

/** Thrown inside a transaction when the directory is no longer as it was read: look again. */
const STALE = new XenbusError('ERR_STALE', 'the device changed meanwhile');

/**
 * One device of the bus: reads its nodes, asks the reducer, does what it says, and again until there is nothing to
 * do. Everything runs in one chain, so that no two steps of a device's life ever overlap.
 */
export class BackendDevice {
  readonly address: DeviceAddress;
  readonly name: string;
  readonly path: string;
  readonly #o: BackendDeviceOptions;
  #handler: BackendHandler | undefined;
  #frontendPath = '';
  #frontendWatch: Watch | undefined;
  #frontend: XenbusState = XenbusState.unknown;
  #online = false;
  #prepared = false;
  #connected = false;
  #failed = false;
  #removed = false;
  #dirty = false;
  #stopping = false;
  #gone = false;
  #failure: { error: unknown } | undefined;
  #running: Promise<void> | undefined;

  constructor(options: BackendDeviceOptions) {
    this.#o = options;
    this.address = options.address;
    this.name = deviceName(options.address);
    this.path = backendPath(options.ownDomid, options.address);
  }

  get connected(): boolean {
    return this.#connected;
  }

  /** Something at or below the device's directory changed (`key` is relative to it), or its frontend did. */
  poke(key?: string): void {
    if (key && key !== 'state' && key !== 'online') this.#handler?.changed?.(key);
    this.#dirty = true;
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
      if (this.#dirty && !this.#stopping && !this.#gone) this.poke();
    });
  }

  /** Stops serving and releases everything, leaving the store as it is, so that the next process can take over. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#running;
    await this.#release(true);
  }

  async #run(): Promise<void> {
    while (this.#dirty && !this.#stopping && !this.#gone) {
      this.#dirty = false;
      try {
        await this.#step();
      } catch (error) {
        if (error === STALE) this.#dirty = true;
        else await this.#report(error);
      }
    }
  }

  async #step(): Promise<void> {
    const view = await this.#look();
    if (this.#failure && view.backend !== undefined) return this.#declareFailure(view);
    const action = nextAction(view);
    if (action.do === 'wait') return;
    this.#dirty = true;
    await this.#perform(action, view);
  }

  async #look(): Promise<DeviceView> {
    const { store } = this.#o;
    const [state, online, frontend, hotplug, physical] = await Promise.all([
      store.tryRead(`${this.path}/state`),
      store.tryRead(`${this.path}/online`),
      this.#frontendPath ? this.#readFrontendState() : undefined,
      this.#o.waitForHotplug ? store.tryRead(`${this.path}/hotplug-status`) : undefined,
      this.#o.waitForHotplug ? store.tryRead(`${this.path}/physical-device`) : undefined,
    ]);
    const frontendState = parseState(frontend);
    this.#noticeFrontend(frontendState);
    this.#noticeOnline(online === '1');
    return {
      backend: state === undefined ? undefined : parseState(state),
      frontend: frontendState,
      online: online === '1',
      gated: this.#o.waitForHotplug && hotplug !== 'connected' && physical === undefined,
      prepared: this.#prepared,
      connected: this.#connected,
      failed: this.#failed,
      removed: this.#removed,
    };
  }

  /** A frontend directory that may not be read counts as gone, like one that is deleted. */
  async #readFrontendState(): Promise<string | undefined> {
    return this.#o.store.tryRead(`${this.#frontendPath}/state`).catch((error) => {
      if ((error as { code?: string }).code === 'EACCES') return undefined;
      throw error;
    });
  }

  #noticeFrontend(state: XenbusState): void {
    if (state === this.#frontend) return;
    this.#frontend = state;
    if (frontendChannel.hasSubscribers) frontendChannel.publish({ address: this.address, state });
  }

  #noticeOnline(online: boolean): void {
    if (online === this.#online) return;
    this.#online = online;
    if (onlineChannel.hasSubscribers) onlineChannel.publish({ address: this.address, online });
  }

  async #perform(action: Exclude<DeviceAction, { do: 'wait' }>, view: DeviceView): Promise<void> {
    switch (action.do) {
      case 'prepare':
        return this.#prepare(view, action.state);
      case 'connect':
        return this.#connect(view, action.reattach);
      case 'disconnect':
        await this.#disconnect();
        return this.#publish(view.backend, action.state, {});
      case 'setState':
        return this.#publish(view.backend, action.state, {});
      case 'remove':
        return this.#remove();
      case 'forget':
        return this.#forget();
    }
  }

  async #prepare(view: DeviceView, next: XenbusState | undefined): Promise<void> {
    // State Initialising while we hold a device: the toolstack deleted the directory and made it again.
    await this.#release(false);
    this.#removed = false;
    try {
      await this.#findFrontend();
      this.#handler = this.#o.createHandler(this.#context());
      const values = await this.#handler.prepare();
      this.#prepared = true;
      await this.#publish(view.backend, next, values);
    } catch (error) {
      if (error === STALE) throw error;
      this.#failed = true;
      await this.#giveUp(error, view.backend);
    }
  }

  async #connect(view: DeviceView, reattach: boolean): Promise<void> {
    const handler = this.#handler!;
    try {
      const values = await handler.connect({ reattach });
      this.#connected = true;
      await this.#publish(view.backend, XenbusState.connected, values);
      await removeErrorNode(this.#o.store, this.#o.ownDomid, this.address);
    } catch (error) {
      await this.#disconnect();
      if (error === STALE) throw error;
      await this.#giveUp(error, view.backend);
    }
  }

  async #disconnect(): Promise<void> {
    this.#connected = false;
    await this.#handler?.disconnect();
  }

  /** Tells the toolstack and the operator why, and asks the frontend to close. */
  async #giveUp(error: unknown, expected: XenbusState | undefined): Promise<void> {
    await this.#report(error);
    await this.#publish(expected, XenbusState.closing, {});
  }

  async #declareFailure(view: DeviceView): Promise<void> {
    const { error } = this.#failure!;
    this.#failure = undefined;
    this.#dirty = true;
    if (view.backend !== XenbusState.closing && view.backend !== XenbusState.closed) {
      await this.#giveUp(error, view.backend);
    }
  }

  async #report(error: unknown): Promise<void> {
    errorChannel.publish({ address: this.address, error });
    await writeErrorNode(this.#o.store, this.#o.ownDomid, this.address, error);
  }

  async #remove(): Promise<void> {
    await this.#release(false);
    this.#removed = true;
    if (this.#o.removeDirectory) await this.#deleteDirectory();
  }

  /** Deletes the own directory, and the frontend's below the type when it is empty. */
  async #deleteDirectory(): Promise<void> {
    const { store } = this.#o;
    await store.remove(this.path);
    const parent = this.path.slice(0, this.path.lastIndexOf('/'));
    await store.transaction(async (tx) => {
      if ((await tx.tryDirectory(parent))?.length === 0) await tx.remove(parent);
    });
  }

  async #forget(): Promise<void> {
    this.#gone = true;
    await this.#release(false);
    await removeErrorNode(this.#o.store, this.#o.ownDomid, this.address);
    this.#o.onGone(this);
  }

  async #release(leave: boolean): Promise<void> {
    const handler = this.#handler;
    this.#handler = undefined;
    this.#prepared = this.#connected = this.#failed = false;
    this.#failure = undefined;
    const watch = this.#frontendWatch;
    this.#frontendWatch = undefined;
    this.#frontendPath = '';
    await watch?.[Symbol.asyncDispose]();
    if (!handler) return;
    await handler.disconnect();
    await handler.close({ leave });
  }

  async #findFrontend(): Promise<void> {
    const key = `${this.path}/frontend`;
    const path = await this.#o.store.tryRead(key);
    const prefix = `${domainPath(this.address.domid)}/device/`;
    if (!path?.startsWith(prefix)) {
      const what = path === undefined ? 'missing' : `"${path}"`;
      throw new XenbusError('EINVAL', `${key} is ${what}; expected a path below ${prefix}`, { path: key });
    }
    this.#frontendPath = path;
    this.#frontendWatch = await this.#o.store.watch(`${path}/state`);
    void this.#follow(this.#frontendWatch);
  }

  async #follow(watch: Watch): Promise<void> {
    try {
      for await (const _ of watch) if (watch === this.#frontendWatch) this.poke();
    } catch {
      // The connection to xenstored ended; its owner hears of that by other means.
    }
  }

  /**
   * Writes keys and state in one transaction, only if the directory is still there and the state still the one that
   * the decision was made on. A directory that the toolstack deleted is never written again.
   */
  async #publish(expected: XenbusState | undefined, next: XenbusState | undefined, values: XenstoreValues) {
    await this.#o.store.transaction(async (tx) => {
      const text = await tx.tryRead(`${this.path}/state`);
      if (text === undefined || parseState(text) !== expected) throw STALE;
      const writes = Object.entries(values).map(([key, value]) => tx.write(`${this.path}/${key}`, value));
      if (next !== undefined) writes.push(tx.write(`${this.path}/state`, next));
      await Promise.all(writes);
    });
    if (next === undefined || !stateChannel.hasSubscribers) return;
    stateChannel.publish({ address: this.address, from: expected, to: next, values });
  }

  #context(): BackendContext {
    return {
      address: this.address,
      name: this.name,
      ownDomid: this.#o.ownDomid,
      backendPath: this.path,
      frontendPath: this.#frontendPath,
      store: this.#o.store,
      update: async (values) => {
        if (!this.#connected || this.#stopping) return;
        await this.#publish(XenbusState.connected, XenbusState.connected, values).catch((error) => {
          if (error !== STALE) throw error;
        });
      },
      fail: (error) => {
        this.#failure ??= { error };
        this.poke();
      },
    };
  }
}
