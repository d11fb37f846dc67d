import type { Watch } from '@xenpv/xenstore';
import { DeviceNodes, type DeviceNodesOptions, STALE } from './device-nodes.js';
import { errorChannel, frontendChannel, onlineChannel } from './diagnostics.js';
import { removeErrorNode, writeErrorNode } from './error-node.js';
import type { BackendContext, BackendHandler } from './handler.js';
import { holdings, nextPhase, type Phase, type Transition, type Wish } from './life.js';
import { type DeviceAddress, deviceName } from './paths.js';
import { type DeviceAction, type DeviceView, nextAction } from './reducer.js';
import { XenbusState } from './states.js';

/** How the bus makes a backend for a device that the toolstack created. */
export type HandlerFactory = (context: BackendContext) => BackendHandler;

export interface BackendDeviceOptions extends DeviceNodesOptions {
  readonly createHandler: HandlerFactory;
  /** In a driver domain libxl expects the backend to delete its own directory. */
  readonly removeDirectory: boolean;
  /** Called once, when the device's directory is gone and everything is released. */
  readonly onGone: (device: BackendDevice) => void;
}

/**
 * One device of the bus: reads its nodes, asks the reducer, does what it says, and again until there is nothing to do.
 *
 * In come pokes, at any time and in any number; what they mean is read from the store. The invariants:
 * - Steps are taken by one chain (`#run`), so that no two of them overlap and the handler is called for one thing at a
 *   time.
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
  /** `vbd-5-51712`, for messages. */
  readonly name: string;
  readonly #options: BackendDeviceOptions;
  readonly #nodes: DeviceNodes;
  #handler: BackendHandler | undefined;
  #followedPath: string | undefined;
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
    this.#nodes = new DeviceNodes(options);
  }

  /** The backend's directory. */
  get path(): string {
    return this.#nodes.path;
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

  /** Stops serving and releases everything, leaving the store as it is, so that the next process can adopt it. */
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
    const reading = await this.#nodes.read(this.#followedPath);
    this.#noticeFrontend(reading.frontend);
    this.#noticeOnline(reading.online);
    return { ...reading, ...holdings(this.#phase) };
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
        return this.#connect(view, { adopt: action.adopt });
      case 'disconnect':
        await this.#disconnect();
        return this.#nodes.publish(view.backend, action.state);
      case 'setState':
        return this.#nodes.publish(view.backend, action.state);
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
      const frontendPath = await this.#followFrontend();
      this.#handler = this.#options.createHandler(this.#context(frontendPath));
      const values = await this.#handler.prepare();
      this.#enter('opened');
      await this.#nodes.publish(view.backend, next, values);
    } catch (error) {
      if (error === STALE) throw error;
      this.#enter('openingFailed');
      await this.#giveUp(error, view.backend);
    }
  }

  async #connect(view: DeviceView, how: { adopt: boolean }): Promise<void> {
    const handler = this.#handler;
    if (handler === undefined) return;
    try {
      const values = await handler.connect(how);
      this.#enter('served');
      await this.#nodes.publish(view.backend, XenbusState.connected, values);
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
    await this.#nodes.publish(expected, XenbusState.closing);
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
    if (this.#options.removeDirectory) await this.#nodes.delete();
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
    this.#followedPath = undefined;
    await watch?.[Symbol.asyncDispose]();
    if (!handler) return;
    await handler.disconnect();
    await handler.close(how);
  }

  /** Pokes the device with each state of the frontend. The frontend's directory. */
  async #followFrontend(): Promise<string> {
    const path = await this.#nodes.readFrontendPath();
    this.#followedPath = path;
    this.#frontendWatch = await this.#options.store.watch(`${path}/state`);
    void this.#follow(this.#frontendWatch);
    return path;
  }

  async #follow(watch: Watch): Promise<void> {
    try {
      for await (const _ of watch) if (watch === this.#frontendWatch) this.poke();
    } catch {
      // The connection to xenstored ended; its owner hears of that by other means.
    }
  }

  #context(frontendPath: string): BackendContext {
    return {
      address: this.address,
      name: this.name,
      ownDomid: this.#options.ownDomid,
      backendPath: this.#nodes.path,
      frontendPath,
      store: this.#options.store,
      update: async (values) => {
        if (this.#phase !== 'connected' || this.#wish === 'stop') return;
        await this.#nodes.update(values);
      },
      fail: (error) => {
        this.#failure ??= { error };
        this.poke();
      },
    };
  }
}
