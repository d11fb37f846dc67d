import type { XenProvider } from '@xenpv/xen-sys';
import type { TreeSchema, TreeValues, XenstoreClient } from '@xenpv/xenstore';
import { errorMessage, XenbusError } from '../errors.js';
import type { XenstoreValues } from '../handler/handler.js';
import { XenbusState } from '../states.js';
import { CLOSE_TIMEOUT_MS, FrontendConnection } from './frontend-connection.js';
import { FrontendLink } from './frontend-link.js';
import { type FrontendAddress, FrontendHandshake } from './handshake.js';

/** What a frontend shares in a connection that begins, see {@link FrontendOptions.publish}. */
export interface FrontendOffer {
  /** Makes pages and ports. */
  readonly link: FrontendLink;
  /** What the backend offers, by a schema: it is read once the backend is in InitWait. */
  readonly readBackend: <const T extends TreeSchema>(schema: T) => Promise<TreeValues<T>>;
  /** That of the `connect` or `reconnect` that this connection is made for; undefined if it has none. */
  readonly signal: AbortSignal | undefined;
}

/** What a connection is made of. */
export interface FrontendPublication<S> {
  /** What the backend is told, in the frontend's directory. */
  readonly keys: XenstoreValues;
  /** Whatever this end goes on with, such as its pages and channels: {@link FrontendDevice.shared}. */
  readonly shared: S;
}

/** How a {@link FrontendDevice} connects. */
export interface FrontendOptions<S> extends FrontendAddress {
  /** The guest's own view of Xen; it must have a grant allocator. Left open by {@link FrontendDevice.close}. */
  readonly provider: Pick<XenProvider, 'openEventChannels' | 'openGrantAllocator'>;
  /** The guest's xenstore. Left open too. */
  readonly store: XenstoreClient;
  /**
   * Makes what is shared, and returns the keys that tell the backend of it; they are written in one transaction, before
   * Initialised. Called for each connection, so a reconnect has pages and ports of its own. The keys of an earlier
   * connection that are not among these are removed.
   */
  readonly publish: (offer: FrontendOffer) => FrontendPublication<S> | Promise<FrontendPublication<S>>;
  /**
   * Whether InitWait is waited for, before `publish`. Linux's console frontend does not, for a first connection. Default
   * true.
   */
  readonly waitForInitWait?: boolean | undefined;
  /** How long closing waits for a backend that does not answer, in milliseconds. Default 5000. */
  readonly closeTimeoutMs?: number | undefined;
  /** Gives up the handshake. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * A frontend of any kind: the guest's end of a device, for tests of a backend and for programs in a guest.
 *
 * It follows its backend: one that goes to Closing or Closed, or away, is followed to Closed, and {@link disconnected}
 * tells why. It does not come back by itself; {@link reconnect} does that.
 */
export class FrontendDevice<S = unknown> implements AsyncDisposable {
  readonly #options: FrontendOptions<S>;
  readonly #handshake: FrontendHandshake;
  #made: Made<S>;
  #isClosed = false;
  #reconnecting: Promise<void> = Promise.resolve();

  private constructor(options: FrontendOptions<S>, handshake: FrontendHandshake, made: Made<S>) {
    this.#options = options;
    this.#handshake = handshake;
    this.#made = made;
  }

  /**
   * Connects to the backend of a device that a toolstack attached, waiting for the backend to be there. Rejects with
   * XenbusError ERR_HANDSHAKE when there is no such device or the backend refuses, the signal's reason when that is
   * aborted, and what `publish`, the provider and the store throw. Nothing is shared any more then.
   */
  static async connect<S>(options: FrontendOptions<S>): Promise<FrontendDevice<S>> {
    const handshake = await FrontendHandshake.find(options.store, options, { signal: options.signal });
    return new FrontendDevice<S>(options, handshake, await connectOnce(options, handshake, [], options.signal));
  }

  /** The frontend's directory. */
  get path(): string {
    return this.#handshake.path;
  }

  /** The backend's directory. */
  get backendPath(): string {
    return this.#handshake.backendPath;
  }

  /** The backend's domain. */
  get backendDomid(): number {
    return this.#handshake.backendDomid;
  }

  /** What `publish` made for the present connection. After its end the pages must not be touched any more. */
  get shared(): S {
    return this.#made.shared;
  }

  /** Whether both ends are connected, as far as this end knows. */
  get connected(): boolean {
    return this.#made.connection.isOpen;
  }

  /**
   * Resolves when the present connection is over and its pages and ports are taken back: with undefined when this end
   * closed it, else with XenbusError ERR_CLOSED, which tells why. {@link reconnect} begins another one.
   */
  get disconnected(): Promise<XenbusError | undefined> {
    return this.#made.connection.ended;
  }

  /** Keys of the backend's directory as they are now, in one transaction. Errors: those of readTree of @xenpv/xenstore. */
  readBackend<const T extends TreeSchema>(
    schema: T,
    options: { readonly signal?: AbortSignal | undefined } = {},
  ): Promise<TreeValues<T>> {
    return this.#handshake.readBackend(schema, options);
  }

  /**
   * Closes the connection, if there is one, and connects again with new pages and ports. Rejects as {@link connect}, with
   * ERR_CLOSED after {@link close}. A backend whose toolstack has ended the device never comes to InitWait again: give a
   * `signal`.
   */
  reconnect(options: { readonly signal?: AbortSignal | undefined } = {}): Promise<void> {
    const turn = this.#reconnecting.then(() => this.#reconnect(options.signal));
    this.#reconnecting = turn.catch(() => {});
    return turn;
  }

  /**
   * Closing, then Closed, each after the backend has followed; then the pages and ports are taken back. Harmless when
   * repeated. After a few seconds without an answer from the backend it goes ahead alone.
   */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#made.connection.close();
    // One that was beginning closes what it made.
    await this.#reconnecting;
    await this.#made.connection.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #reconnect(signal: AbortSignal | undefined): Promise<void> {
    this.#checkOpen();
    await this.#made.connection.close();
    this.#checkOpen();
    this.#made = await connectOnce(this.#options, this.#handshake, Object.keys(this.#made.keys), signal);
  }

  #checkOpen(): void {
    if (!this.#isClosed) return;
    throw new XenbusError('ERR_CLOSED', 'connect', `${this.path} was closed by this end; connect it anew`);
  }
}

interface Made<S> extends FrontendPublication<S> {
  readonly connection: FrontendConnection;
}

async function connectOnce<S>(
  options: FrontendOptions<S>,
  handshake: FrontendHandshake,
  oldKeys: readonly string[],
  signal: AbortSignal | undefined,
): Promise<Made<S>> {
  const isPatient = options.waitForInitWait ?? true;
  if (isPatient || !(await handshake.isFirst({ signal }))) await handshake.reachInitWait({ signal });
  let connection: FrontendConnection | undefined;
  const fail = (error: unknown) => connection?.lose(`a listener failed: ${errorMessage(error)}`, error);
  const link = new FrontendLink(options.provider, handshake.backendDomid, fail);
  const closeTimeoutMs = options.closeTimeoutMs ?? CLOSE_TIMEOUT_MS;
  try {
    const readBackend = <const T extends TreeSchema>(schema: T) => handshake.readBackend(schema, { signal });
    const made = await options.publish({ link, readBackend, signal });
    await introduce(handshake, made.keys, oldKeys, { signal, closeTimeoutMs });
    connection = new FrontendConnection(handshake, link, closeTimeoutMs);
    link.open();
    return { ...made, connection };
  } catch (error) {
    link[Symbol.dispose]();
    throw error;
  }
}

/** From the keys to Connected. A backend that may have seen the pages has let go of them when it rejects. */
async function introduce(
  handshake: FrontendHandshake,
  values: XenstoreValues,
  oldKeys: readonly string[],
  { signal, closeTimeoutMs }: { signal: AbortSignal | undefined; closeTimeoutMs: number },
): Promise<void> {
  const stale = oldKeys.filter((key) => !Object.hasOwn(values, key));
  try {
    await handshake.announce(
      async (tx, path) => {
        for (const key of stale) if (await tx.exists(`${path}/${key}`)) await tx.remove(`${path}/${key}`);
        await Promise.all(Object.entries(values).map(([key, value]) => tx.write(`${path}/${key}`, value)));
      },
      { signal },
    );
    await handshake.reachConnected({ signal });
    await handshake.setState(XenbusState.connected, { signal });
  } catch (error) {
    await handshake.close({ signal: AbortSignal.timeout(closeTimeoutMs) }).catch(() => {});
    throw error;
  }
}
