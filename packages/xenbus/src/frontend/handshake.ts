import type { Domid } from '@xenpv/xen-sys';
import {
  isXenstoreError,
  type OperationOptions,
  readTree,
  type TreeSchema,
  type TreeValues,
  type XenstoreClient,
  type XenstoreOperations,
} from '@xenpv/xenstore';
import { XenbusError } from '../errors.js';
import { domainPath } from '../paths.js';
import { parseState, stateName, XenbusState } from '../states.js';

/** Which device of a domain, as its frontend knows it. */
export interface FrontendAddress {
  /** The frontend's class: what is below `device/`, `vbd` for every kind of disk backend. */
  readonly type: string;
  /** The device number, below `device/<type>/`; for disks the vdev number. */
  readonly devid: number;
  /** The frontend's domain, where the store is another's (a test in dom0). By default paths are relative to its home. */
  readonly domid?: Domid | undefined;
}

const S = XenbusState;

/** A missing directory cannot be found by a wait for it either: somebody removed the device. */
const REMOVED = 'removed';

const TOOLSTACK_KEYS = { backend: { type: 'string' }, 'backend-id': { type: 'domid' } } as const satisfies TreeSchema;

/**
 * A frontend's half of the xenbus handshake (public/io/xenbus.h), step by step: what a frontend of any kind does with
 * `state` nodes. {@link FrontendDevice} goes through all of it.
 *
 * What comes in: a device that a toolstack attached, in whatever state an earlier kernel left it. What must hold: a
 * directory that was removed is never written again. What never happens: that a backend's keys of an earlier connection
 * are taken for those of this one, if they are read after {@link reachInitWait}.
 */
export class FrontendHandshake {
  /** The frontend's directory. */
  readonly path: string;
  /** The backend's directory, as the toolstack wrote it into the frontend's `backend`. */
  readonly backendPath: string;
  /** The frontend's `backend-id`: the domain that pages are granted to and ports are made for. */
  readonly backendDomid: Domid;
  readonly #store: XenstoreClient;

  private constructor(store: XenstoreClient, path: string, backend: { path: string; domid: Domid }) {
    this.#store = store;
    this.path = path;
    this.backendPath = backend.path;
    this.backendDomid = backend.domid;
  }

  /** Reads where the backend is. XenbusError ERR_HANDSHAKE when there is no such device. */
  static async find(
    store: XenstoreClient,
    address: FrontendAddress,
    options: OperationOptions = {},
  ): Promise<FrontendHandshake> {
    const home = address.domid === undefined ? '' : `${domainPath(address.domid)}/`;
    const path = `${home}device/${address.type}/${address.devid}`;
    const { backend, domid } = await findBackend(store, path, options);
    return new FrontendHandshake(store, path, { path: backend, domid });
  }

  /** Whether nobody has been connected since the toolstack attached the device. */
  async isFirst(options: OperationOptions = {}): Promise<boolean> {
    return (await this.#ownState(options)) === S.initialising && (await this.backendState(options)) !== S.connected;
  }

  /**
   * Brings both ends to where a new connection begins: the frontend Initialising, the backend InitWait. A connection
   * that an earlier kernel left is closed first, as Linux does after kexec. XenbusError ERR_HANDSHAKE when a backend
   * that was never connected gives up, or the device is removed meanwhile.
   */
  async reachInitWait(options: OperationOptions = {}): Promise<void> {
    const isFirst = await this.isFirst(options);
    if (!isFirst) {
      if ((await this.#ownState(options)) !== S.closed) await this.close(options);
      await this.setState(S.initialising, options);
    }
    const state = await this.waitForBackend((now) => {
      if (now === S.initWait) return now;
      return isFirst && now >= S.closing ? now : undefined;
    }, options);
    if (state !== S.initWait) throw this.#refused(state);
  }

  /**
   * Publishes this end and says Initialised: `write` puts the keys into the directory whose path it gets, in one
   * transaction. It may be called again when that conflicts.
   */
  async announce(
    write: (tx: XenstoreOperations, path: string) => Promise<void>,
    options: OperationOptions = {},
  ): Promise<void> {
    await this.#store.transaction((tx) => write(tx, this.path), options);
    await this.setState(S.initialised, options);
  }

  /** Waits until the backend is connected. XenbusError ERR_HANDSHAKE when it refuses, or the device is removed. */
  async reachConnected(options: OperationOptions = {}): Promise<void> {
    const isAnswer = (state: XenbusState) => state >= S.connected || state === S.unknown;
    const state = await this.waitForBackend((now) => (isAnswer(now) ? now : undefined), options);
    if (state !== S.connected) throw this.#refused(state);
  }

  /** Closing, then Closed, each after the backend has followed. */
  async close(options: OperationOptions = {}): Promise<void> {
    const isPast = (state: XenbusState) => state >= S.closing || state < S.initialised;
    const isClosed = (state: XenbusState) => state === S.closed || state < S.initialised;
    await this.setState(S.closing, options);
    await this.waitForBackend((state) => isPast(state) || undefined, options);
    await this.setState(S.closed, options);
    await this.waitForBackend((state) => isClosed(state) || undefined, options);
  }

  /** Writes the frontend's state, unless its directory is gone: a removed one must not come back. */
  async setState(state: XenbusState, options: OperationOptions = {}): Promise<void> {
    await this.#store.transaction(async (tx) => {
      if (await tx.exists(`${this.path}/state`)) await tx.write(`${this.path}/state`, state);
    }, options);
  }

  /** The backend's state; Unknown when its directory is gone. */
  async backendState(options: OperationOptions = {}): Promise<XenbusState> {
    return parseState(await this.#store.tryRead(`${this.backendPath}/state`, options));
  }

  /**
   * Waits until `verdict` of the backend's state is something. XenbusError ERR_HANDSHAKE when both directories are gone,
   * so that nothing will come.
   */
  async waitForBackend<T>(verdict: (state: XenbusState) => T | undefined, options: OperationOptions = {}): Promise<T> {
    const answer = await this.#store.waitFor(async (ops): Promise<{ value: T } | typeof REMOVED | undefined> => {
      const value = verdict(parseState(await ops.tryRead(`${this.backendPath}/state`)));
      if (value !== undefined) return { value };
      return (await ops.exists(`${this.path}/state`)) ? undefined : REMOVED;
    }, options);
    if (answer !== REMOVED) return answer.value;
    const { path } = this;
    throw new XenbusError('ERR_HANDSHAKE', 'connect', `${path} was removed meanwhile; attach the device anew`, {
      path,
    });
  }

  /** Keys of the backend's directory, in one transaction. Errors: those of readTree of @xenpv/xenstore. */
  readBackend<const T extends TreeSchema>(schema: T, options: OperationOptions = {}): Promise<TreeValues<T>> {
    return readTree(this.#store, this.backendPath, schema, options);
  }

  async #ownState(options: OperationOptions): Promise<XenbusState> {
    return parseState(await this.#store.tryRead(`${this.path}/state`, options));
  }

  #refused(state: XenbusState): XenbusError {
    const path = this.backendPath;
    return new XenbusError('ERR_HANDSHAKE', 'connect', `the backend ${path} went to ${stateName(state)}`, { path });
  }
}

async function findBackend(store: XenstoreClient, path: string, options: OperationOptions) {
  try {
    const { backend, 'backend-id': domid } = await readTree(store, path, TOOLSTACK_KEYS, options);
    return { backend, domid };
  } catch (cause) {
    if (!isXenstoreError(cause, 'ENOENT') && !isXenstoreError(cause, 'ERR_INVALID_VALUE')) throw cause;
    const text = `${path} has no backend: is the device attached?`;
    throw new XenbusError('ERR_HANDSHAKE', 'connect', text, { path, cause });
  }
}
