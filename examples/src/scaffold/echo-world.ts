import { type EmulatedDomain, EmulatedHost } from '@xenpv/emulator';
import {
  attachDevice,
  type BackendContext,
  backendPath,
  errorNodePath,
  FrontendDevice,
  type FrontendOptions,
  type PvConnection,
  type PvDevice,
  type PvPreparation,
  type PvServer,
  parseState,
  servePv,
  type XenbusState,
} from '@xenpv/xenbus';
import { XenstoreClient } from '@xenpv/xenstore';
import { vi } from 'vitest';

export const KEYS = { 'page-ref': { type: 'gref' }, 'event-channel': { type: 'port' } } as const;
export const CONFIG = { colour: { type: 'string', default: 'grey' } } as const;

export type Hook = 'create' | 'prepare' | 'connect' | 'event' | 'changed' | 'disconnect' | 'close';

/** Counts the events that it hears in the first byte of its page, and answers each. */
export class EchoDevice implements PvDevice<typeof KEYS, typeof CONFIG> {
  readonly context: BackendContext;
  /** Which hooks were called: `connect`, `adopt`, `disconnect`, `leave`. */
  readonly calls: string[] = [];
  colour: string | undefined;
  connection: PvConnection<typeof KEYS> | undefined;
  page: Buffer = Buffer.alloc(0);
  readonly #act: Act;

  constructor(context: BackendContext, act: Act) {
    this.context = context;
    this.#act = act;
    void act('create', this, undefined);
  }

  async prepare({ config, signal }: PvPreparation<typeof CONFIG>) {
    this.calls.push('prepare');
    this.colour = config.colour;
    await this.#act('prepare', this, signal);
    return { echoes: 1 };
  }

  async connect(connection: PvConnection<typeof KEYS>) {
    const { keys, link, adopt, signal } = connection;
    this.calls.push(adopt ? 'adopt' : 'connect');
    this.connection = connection;
    this.page = link.map(keys['page-ref'], { writable: true });
    const channel = link.bind(keys['event-channel'], () => {
      this.page[0]++;
      channel.notify();
      return this.#act('event', this, link.signal);
    });
    await this.#act('connect', this, signal);
  }

  async changed({ config, signal }: { config: { colour: string }; signal: AbortSignal }) {
    this.colour = config.colour;
    await this.#act('changed', this, signal);
  }

  async disconnect({ leave }: { leave: boolean }) {
    this.calls.push(leave ? 'leave' : 'disconnect');
    await this.#act('disconnect', this, undefined);
  }

  async close() {
    this.calls.push('close');
    await this.#act('close', this, undefined);
  }
}

/** Resolves once `isSo`, however busy the machine is. */
export function until(isSo: () => boolean | Promise<boolean | undefined> | undefined): Promise<unknown> {
  return vi.waitUntil(isSo, { timeout: 30_000, interval: 5 });
}

type Act = (hook: Hook, device: EchoDevice, signal: AbortSignal | undefined) => Promise<void> | void;

/** What both ends of an echo share, as the frontend sees it. */
export interface EchoShared {
  readonly page: Buffer;
  notify(): void;
}

/**
 * A host with a guest, and a backend of echoes. It tests what @xenpv/xenbus has for authors of backends; it is not in that
 * package because the emulator is built on it.
 */
export class EchoWorld implements AsyncDisposable {
  readonly host: EmulatedHost;
  readonly guest: EmulatedDomain;
  readonly store: XenstoreClient;
  readonly guestStore: XenstoreClient;
  /** Every object that was made, the newest last. */
  readonly made: EchoDevice[] = [];
  readonly servers: PvServer<typeof KEYS, typeof CONFIG, EchoDevice>[] = [];
  /** Called in each hook of each device. */
  act: Act = () => {};
  readonly #frontends: FrontendDevice<EchoShared>[] = [];

  private constructor(host: EmulatedHost, guest: EmulatedDomain, store: XenstoreClient, guestStore: XenstoreClient) {
    this.host = host;
    this.guest = guest;
    this.store = store;
    this.guestStore = guestStore;
  }

  static async create(): Promise<EchoWorld> {
    const host = await EmulatedHost.create();
    const guest = await host.createDomain({ name: 'guest' });
    const store = XenstoreClient.open(await host.provider(0).connectXenstore());
    return new EchoWorld(host, guest, store, XenstoreClient.open(await guest.provider.connectXenstore()));
  }

  async serve(options: { signal?: AbortSignal; store?: XenstoreClient; abortTimeoutMs?: number } = {}) {
    const server = await servePv({
      provider: this.host.provider(0),
      store: this.store,
      type: 'echo',
      keys: KEYS,
      config: CONFIG,
      device: (context) => {
        const device = new EchoDevice(context, (...call) => this.act(...call));
        this.made.push(device);
        return device;
      },
      ...options,
    });
    this.servers.push(server);
    return server;
  }

  attach(devid = 0, colour?: string) {
    const backendKeys = colour === undefined ? {} : { colour };
    return attachDevice(this.store, this.guest.domid, { type: 'echo', devid, backendKeys });
  }

  async connect(options: Partial<FrontendOptions<EchoShared>> = {}): Promise<FrontendDevice<EchoShared>> {
    const frontend = await FrontendDevice.connect<EchoShared>({
      provider: this.guest.provider,
      store: this.guestStore,
      type: 'echo',
      devid: 0,
      publish: ({ link }) => {
        const { refs, bytes } = link.grant();
        const channel = link.bind(() => {});
        const shared = { page: bytes, notify: () => void channel.notify() };
        return { keys: { 'page-ref': refs[0], 'event-channel': channel.port }, shared };
      },
      ...options,
    });
    this.#frontends.push(frontend);
    return frontend;
  }

  /** The backend's directory. */
  back(devid = 0): string {
    return backendPath(0, { type: 'echo', domid: this.guest.domid, devid });
  }

  async state(devid = 0): Promise<XenbusState> {
    return parseState(await this.store.tryRead(`${this.back(devid)}/state`));
  }

  /** The device's error node, or undefined. */
  error(devid = 0): Promise<string | undefined> {
    return this.store.tryRead(`${errorNodePath(0, { type: 'echo', domid: this.guest.domid, devid })}/error`);
  }

  /** What domain 0 holds of the guest. */
  get held(): { mapped: number; ports: number } {
    return { mapped: this.guest.usage().mapped, ports: this.host.usage(0).ports };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.act = () => {};
    await Promise.all(this.#frontends.map((frontend) => frontend.close()));
    await Promise.all(this.servers.map((server) => server.close()));
    await Promise.all([this.store.close(), this.guestStore.close()]);
    await this.host.close();
  }
}
