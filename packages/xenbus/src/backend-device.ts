import type { Watch, XenstoreClient } from '@xenpv/xenstore';
import { errorChannel, frontendChannel, onlineChannel, stateChannel } from './diagnostics.js';
import { removeErrorNode, writeErrorNode } from './error-node.js';
import { errorCode, XenbusError } from './errors.js';
import type { BackendContext, BackendHandler, XenstoreValues } from './handler.js';
import { holdings, nextPhase, type Phase, type Transition, type Wish } from './life.js';
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
const STALE = new XenbusError('ERR_STALE', 'publish', 'the device changed since it was looked at');

/**
 * One device of the bus: reads its nodes, asks the reducer, does what it says, and again until there is nothing to do.
 *
 * In come pokes, at any time and in any number; what they mean is read from the store. The invariants:
 * - Steps are taken by one chain ({@link BackendDevice.#run}), so that no two of them overlap and the handler is called
 *   for one thing at a time.
 * - A poke only wishes for a look. A change that comes while a step is taken is looked at after that step, one that
 *   comes while the chain ends begins a new chain: none is lost, though many may share one look.
 * - The phase says what is held, and changes only in the chain, by the named transitions of life.ts. There is a handler
 *   in `prepared` and `connected`, perhaps in `failed`, never in the others once their step is done.
 * - What is written is written in a transaction that first verifies that `state` is still what the decision was based
 *   on. If it is not, nothing is written and the device is looked at again. So a directory that the toolstack deleted
 *   is never written again.
 * - The wish to stop and the phase `gone` are final: the step in hand is finished, no other begins.
 */
export class BackendDevice {
  readonly address: DeviceAddress;
  readonly name: string;
  readonly path: string;
  readonly #options: BackendDeviceOptions;
  #handler: BackendHandler | undefined;
  #frontendPath = '';
  #frontendWatch: Watch | undefined;
  /** As told on the channels. */
  #seenFrontend: XenbusState = XenbusState.unknown;
  #seenOnline = false;
  #phase: Phase = 'idle';
  #wish: Wish = 'rest';
  /** What the handler reported, until it is declared. */
  #failure: { error: unknown } | undefined;
  #running: Promise<void> | undefined;

  constructor(options: BackendDeviceOptions) {
    this.#options = options;
    this.address = options.address;
    this.name = deviceName(options.address);
    this.path = backendPath(options.ownDomid, options.address);
  }

  get connected(): boolean {
    return this.#phase === 'connected';
  }

  /** Something at or below the device's directory changed (`key` is relative to it), or its frontend did. */
  poke(key?: string): void {
    if (key && key !== 'state' && key !== 'online') this.#handler?.changed?.(key);
    this.#lookAgain();
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
      if (this.#wantsLook()) this.poke();
    });
  }

  /** Stops serving and releases everything, leaving the store as it is, so that the next process can take over. */
  async stop(): Promise<void> {
    this.#wish = 'stop';
    await this.#running;
    await this.#release({ leave: true });
  }

  async #run(): Promise<void> {
    while (this.#wantsLook()) {
      this.#wish = 'rest';
      try {
        await this.#step();
      } catch (error) {
        if (error === STALE) this.#lookAgain();
        else await this.#report(error);
      }
    }
  }

  #lookAgain(): void {
    if (this.#wish !== 'stop') this.#wish = 'look';
  }

  #wantsLook(): boolean {
    return this.#wish === 'look' && this.#phase !== 'gone';
  }

  #enter(transition: Transition): void {
    this.#phase = nextPhase(this.#phase, transition);
  }

  async #step(): Promise<void> {
    const view = await this.#look();
    const failure = this.#failure;
    if (failure !== undefined && view.backend !== undefined) return this.#declareFailure(failure.error, view.backend);
    const action = nextAction(view);
    if (action.do === 'wait') return;
    this.#lookAgain();
    await this.#perform(action, view);
  }

  async #look(): Promise<DeviceView> {
    const { store } = this.#options;
    const [state, online, frontend, hotplug, physical] = await Promise.all([
      store.tryRead(`${this.path}/state`),
      store.tryRead(`${this.path}/online`),
      this.#frontendPath ? this.#readFrontendState() : undefined,
      this.#options.waitForHotplug ? store.tryRead(`${this.path}/hotplug-status`) : undefined,
      this.#options.waitForHotplug ? store.tryRead(`${this.path}/physical-device`) : undefined,
    ]);
    const frontendState = parseState(frontend);
    this.#noticeFrontend(frontendState);
    this.#noticeOnline(online === '1');
    return {
      backend: state === undefined ? undefined : parseState(state),
      frontend: frontendState,
      online: online === '1',
      gated: this.#options.waitForHotplug && hotplug !== 'connected' && physical === undefined,
      ...holdings(this.#phase),
    };
  }

  /** A frontend directory that may not be read counts as gone, like one that is deleted. */
  async #readFrontendState(): Promise<string | undefined> {
    return this.#options.store.tryRead(`${this.#frontendPath}/state`).catch((error) => {
      if (errorCode(error) === 'EACCES') return undefined;
      throw error;
    });
  }

  #noticeFrontend(state: XenbusState): void {
    if (state === this.#seenFrontend) return;
    this.#seenFrontend = state;
    if (frontendChannel.hasSubscribers) frontendChannel.publish({ address: this.address, state });
  }

  #noticeOnline(online: boolean): void {
    if (online === this.#seenOnline) return;
    this.#seenOnline = online;
    if (onlineChannel.hasSubscribers) onlineChannel.publish({ address: this.address, online });
  }

  async #perform(action: Exclude<DeviceAction, { do: 'wait' }>, view: DeviceView): Promise<void> {
    switch (action.do) {
      case 'prepare':
        return this.#prepare(view, action.state);
      case 'connect':
        return this.#connect(view, { reattach: action.reattach });
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
    await this.#release({ leave: false });
    try {
      await this.#findFrontend();
      this.#handler = this.#options.createHandler(this.#context());
      const values = await this.#handler.prepare();
      this.#enter('opened');
      await this.#publish(view.backend, next, values);
    } catch (error) {
      if (error === STALE) throw error;
      this.#enter('openingFailed');
      await this.#giveUp(error, view.backend);
    }
  }

  async #connect(view: DeviceView, how: { reattach: boolean }): Promise<void> {
    const handler = this.#handler;
    if (handler === undefined) return;
    try {
      const values = await handler.connect(how);
      this.#enter('served');
      await this.#publish(view.backend, XenbusState.connected, values);
      await removeErrorNode(this.#options.store, this.#options.ownDomid, this.address);
    } catch (error) {
      await this.#disconnect();
      if (error === STALE) throw error;
      await this.#giveUp(error, view.backend);
    }
  }

  async #disconnect(): Promise<void> {
    this.#enter('disconnected');
    await this.#handler?.disconnect();
  }

  /** Tells the toolstack and the operator why, and asks the frontend to close. */
  async #giveUp(error: unknown, expected: XenbusState | undefined): Promise<void> {
    await this.#report(error);
    await this.#publish(expected, XenbusState.closing, {});
  }

  async #declareFailure(error: unknown, backend: XenbusState): Promise<void> {
    this.#failure = undefined;
    this.#lookAgain();
    if (backend === XenbusState.closing || backend === XenbusState.closed) return;
    await this.#giveUp(error, backend);
  }

  async #report(error: unknown): Promise<void> {
    errorChannel.publish({ address: this.address, error });
    await writeErrorNode(this.#options.store, this.#options.ownDomid, this.address, error);
  }

  async #remove(): Promise<void> {
    await this.#release({ leave: false });
    this.#enter('removed');
    if (this.#options.removeDirectory) await this.#deleteDirectory();
  }

  /** Deletes the own directory, and the frontend's below the type when it is empty. */
  async #deleteDirectory(): Promise<void> {
    const { store } = this.#options;
    await store.remove(this.path);
    const parent = this.path.slice(0, this.path.lastIndexOf('/'));
    await store.transaction(async (tx) => {
      if ((await tx.tryDirectory(parent))?.length === 0) await tx.remove(parent);
    });
  }

  async #forget(): Promise<void> {
    this.#enter('forgotten');
    await this.#release({ leave: false });
    await removeErrorNode(this.#options.store, this.#options.ownDomid, this.address);
    this.#options.onGone(this);
  }

  /** Back to holding nothing. With `leave` the process stops and the frontend waits for the next one. */
  async #release(how: { leave: boolean }): Promise<void> {
    const handler = this.#handler;
    this.#handler = undefined;
    this.#enter('released');
    this.#failure = undefined;
    const watch = this.#frontendWatch;
    this.#frontendWatch = undefined;
    this.#frontendPath = '';
    await watch?.[Symbol.asyncDispose]();
    if (!handler) return;
    await handler.disconnect();
    await handler.close(how);
  }

  async #findFrontend(): Promise<void> {
    const key = `${this.path}/frontend`;
    const path = await this.#options.store.tryRead(key);
    const prefix = `${domainPath(this.address.domid)}/device/`;
    if (!path?.startsWith(prefix)) {
      const what = path === undefined ? 'missing' : `"${path}"`;
      throw new XenbusError('EINVAL', 'prepare', `${key} is ${what}; expected a path below ${prefix}`, { path: key });
    }
    this.#frontendPath = path;
    this.#frontendWatch = await this.#options.store.watch(`${path}/state`);
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
    await this.#options.store.transaction(async (tx) => {
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
      ownDomid: this.#options.ownDomid,
      backendPath: this.path,
      frontendPath: this.#frontendPath,
      store: this.#options.store,
      update: async (values) => {
        if (this.#phase !== 'connected' || this.#wish === 'stop') return;
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
