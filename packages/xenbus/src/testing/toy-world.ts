import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { XenstoreClient } from '@xenpv/xenstore';
import { EmulatedXenstored } from '@xenpv/xenstored';
import type { BackendDevice } from '../backend-device.js';
import { BackendBus, type BackendBusOptions } from '../bus.js';
import type { DeviceErrorEvent, DeviceHeldEvent, DeviceStateEvent, HoldEndedEvent } from '../diagnostics.js';
import type { BackendContext, BackendHandler, CallOptions, KeyTexts, XenstoreValues } from '../handler/handler.js';
import { backendPath, type DeviceAddress, deviceName } from '../paths.js';
import { parseState, stateName, type XenbusState } from '../states.js';
import { createDevice, deleteDevice, frontendPath, removeDevice } from '../toolstack/halves.js';
import { Faults, FaultyTransport, type XenstoreTransport } from './faulty-transport.js';

export type Method = 'create' | 'prepare' | 'connect' | 'changed' | 'disconnect' | 'close';

/** A backend that remembers what was asked of it, and does what `world.act` says before each method. */
export class Toy implements BackendHandler {
  readonly keys: readonly string[] | undefined;
  readonly calls: string[] = [];
  readonly values: KeyTexts[] = [];
  readonly signals: AbortSignal[] = [];
  readonly context: BackendContext;
  readonly #world: ToyWorld;

  constructor(context: BackendContext, world: ToyWorld) {
    this.context = context;
    this.#world = world;
    this.keys = world.keys;
    world.toys.push(this);
    void world.act('create', this, undefined);
  }

  prepare({ signal }: CallOptions): Promise<XenstoreValues> {
    return this.#do('prepare', signal, { 'max-toys': 3 });
  }

  connect({ adopt, signal }: CallOptions & { adopt: boolean }): Promise<XenstoreValues> {
    return this.#do('connect', signal, { toys: 2 }, adopt ? 'adopt' : 'connect');
  }

  async changed(values: KeyTexts, { signal }: CallOptions): Promise<void> {
    this.values.push(values);
    await this.#world.act('changed', this, signal);
  }

  disconnect(): Promise<void> {
    return this.#do('disconnect', undefined, undefined);
  }

  close({ leave }: { leave: boolean }): Promise<void> {
    return this.#do('close', undefined, undefined, leave ? 'leave' : 'close');
  }

  /** Not async: what `act` throws at once is thrown at once. */
  #do<T>(method: Method, signal: AbortSignal | undefined, result: T, call: string = method): Promise<T> {
    this.calls.push(call);
    if (signal) this.signals.push(signal);
    const acting = this.#world.act(method, this, signal);
    return Promise.resolve(acting).then(() => result);
  }
}

/** An xenstored with a toolstack and frontends, and a bus that serves toys by a connection of its own. */
export class ToyWorld implements AsyncDisposable {
  readonly toys: Toy[] = [];
  /** Of the bus and its devices. */
  readonly errors: DeviceErrorEvent[] = [];
  /** Each state that the bus wrote: `toy-5-7 Connected`. */
  readonly written: string[] = [];
  /** Each reason for which a device was held, and each end of that. */
  readonly holds: string[] = [];
  readonly keys: readonly string[] | undefined;
  /** Told of each call of a toy before it does anything. */
  act: (method: Method, toy: Toy, signal: AbortSignal | undefined) => Promise<void> | void = () => {};
  bus!: BackendBus;
  /** The connection of the bus; the newest is the last. */
  readonly transports: FaultyTransport[] = [];
  readonly store: XenstoreClient;
  /** The toolstack's and the frontends'. */
  readonly outside: XenstoreClient;
  readonly #end: () => Promise<void>;
  readonly #onError = (message: unknown) => {
    const event = message as DeviceErrorEvent;
    if (this.#isOurs(event.address)) this.errors.push(event);
  };
  readonly #onState = (message: unknown) => {
    const { address, to } = message as DeviceStateEvent;
    if (this.#isOurs(address)) this.written.push(`${deviceName(address)} ${stateName(to)}`);
  };
  readonly #onHeld = (message: unknown) => {
    const { address, reason } = message as DeviceHeldEvent;
    if (this.#isOurs(address)) this.holds.push(reason);
  };
  readonly #onHoldEnded = (message: unknown) => {
    const { address, by } = message as HoldEndedEvent;
    if (this.#isOurs(address)) this.holds.push(by);
  };
  readonly #type: string;

  private constructor(parts: WorldParts & { store: XenstoreClient; outside: XenstoreClient; end(): Promise<void> }) {
    this.#type = parts.type ?? 'toy';
    this.keys = parts.keys;
    this.store = parts.store;
    this.outside = parts.outside;
    this.#end = parts.end;
    subscribe('xenbus:device:error', this.#onError);
    subscribe('xenbus:device:state', this.#onState);
    subscribe('xenbus:device:held', this.#onHeld);
    subscribe('xenbus:device:hold-ended', this.#onHoldEnded);
  }

  static async create(parts: WorldParts = {}): Promise<ToyWorld> {
    const emulated = parts.connect === undefined ? new EmulatedXenstored() : undefined;
    const connect = parts.connect ?? (async () => emulated!.connect(0));
    const faults = parts.faults ?? new Faults();
    const transports: FaultyTransport[] = [];
    const open = async () => {
      const transport = new FaultyTransport(await connect(), faults);
      transports.push(transport);
      return transport;
    };
    const reconnect = parts.reconnects === false ? undefined : open;
    const store = XenstoreClient.open(await open(), { reconnect });
    const outside = XenstoreClient.open(await connect());
    const end = async () => emulated?.close();
    const world = new ToyWorld({ ...parts, store, outside, end });
    world.transports.push(...transports);
    transports.push = (...more) => world.transports.push(...more);
    return world;
  }

  async start(options: Partial<BackendBusOptions> = {}): Promise<BackendBus> {
    this.bus = await BackendBus.start({
      store: this.store,
      types: [this.#type],
      ownDomid: 0,
      createHandler: (context) => new Toy(context, this),
      ...options,
    });
    return this.bus;
  }

  address(devid = 7): DeviceAddress {
    return { type: this.#type, domid: 5, devid };
  }

  back(devid = 7): string {
    return backendPath(0, this.address(devid));
  }

  front(devid = 7): string {
    return frontendPath(this.address(devid), 'toy');
  }

  async create(devid = 7, backendValues: XenstoreValues = { colour: 'red' }): Promise<void> {
    await createDevice(this.outside, { ...this.#halves(devid), backendValues, frontendValues: {} });
  }

  delete(devid = 7): Promise<void> {
    return deleteDevice(this.outside, this.#halves(devid));
  }

  /** As `xl block-detach` with a frontend that closes. */
  async remove(devid = 7): Promise<void> {
    const removal = removeDevice(this.outside, this.#halves(devid));
    await this.frontend(6, devid);
    await removal;
  }

  frontend(state: XenbusState, devid = 7): Promise<void> {
    return this.outside.write(`${this.front(devid)}/state`, state);
  }

  /** Resolves when the backend is in one of these states. */
  backendIs(states: readonly XenbusState[], devid = 7): Promise<boolean> {
    const { signal } = deadline(`toy ${devid} is none of ${states.map(stateName)}`);
    return this.outside.waitFor(
      async (ops) => {
        const text = await ops.tryRead(`${this.back(devid)}/state`);
        return (text !== undefined && states.includes(parseState(text))) || undefined;
      },
      { signal },
    );
  }

  /** A frontend that comes and connects. */
  async connect(devid = 7): Promise<void> {
    await this.backendIs([2], devid);
    await this.frontend(3, devid);
    await this.backendIs([4], devid);
    await this.frontend(4, devid);
  }

  /** A device that a bus has served until it was closed: both ends are Connected. */
  async leaveConnected(devid = 7): Promise<void> {
    const bus = await this.start();
    await this.create(devid);
    await this.connect(devid);
    await bus.close();
    this.toys.length = 0;
    this.written.length = 0;
    this.holds.length = 0;
  }

  /** The device of the bus. */
  device(devid = 7): BackendDevice | undefined {
    return [...this.bus.devices].find(({ address }) => address.devid === devid);
  }

  toysOf(devid: number): Toy[] {
    return this.toys.filter(({ context }) => context.address.devid === devid);
  }

  #halves(devid: number) {
    return { backendDomid: 0, address: this.address(devid), frontendType: 'toy' };
  }

  /** Channels are the process's: worlds at the same time have types of their own. */
  #isOurs(address: DeviceAddress | undefined): boolean {
    return address === undefined || address.type === this.#type;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.act = () => {};
    await this.bus?.close();
    unsubscribe('xenbus:device:error', this.#onError);
    unsubscribe('xenbus:device:state', this.#onState);
    unsubscribe('xenbus:device:held', this.#onHeld);
    unsubscribe('xenbus:device:hold-ended', this.#onHoldEnded);
    await Promise.all([this.store.close(), this.outside.close()]);
    await this.#end();
  }
}

export interface WorldParts {
  /** `toy` when not given. */
  readonly type?: string | undefined;
  readonly faults?: Faults | undefined;
  /** To an xenstored as domain 0; an emulated one when not given. */
  readonly connect?: (() => Promise<XenstoreTransport>) | undefined;
  /** The client of the bus connects again: unless it is false. */
  readonly reconnects?: boolean | undefined;
  /** Of the toys. */
  readonly keys?: readonly string[] | undefined;
}

const DEADLINE_MS = 15_000;

/** Aborts with a message that tells what did not come. */
function deadline(message: string): { signal: AbortSignal } {
  const controller = new AbortController();
  setTimeout(() => controller.abort(new Error(message)), DEADLINE_MS).unref();
  return controller;
}
