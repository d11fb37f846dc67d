import type { XenstoreTransport } from '@xenpv/xen-sys';
import { Feature, type RequestHost } from './xenstored-call.js';
import { Connection, type ConnectionPort } from './xenstored-connection.js';
import { type DomainRecord, DomainTable } from './xenstored-domains.js';
import { InProcessTransport } from './xenstored-in-process.js';
import { FIRST_RESERVED_DOMID } from './xenstored-limits.js';
import { Access, accessOf, type NodePermission } from './xenstored-permissions.js';
import { DEFAULT_XENSTORED_QUOTAS, type MutableQuotas, type XenstoredQuotas } from './xenstored-quota.js';
import { processRequest } from './xenstored-requests.js';
import { type RingPage, RingServer } from './xenstored-ring.js';
import { XenstoreSocket } from './xenstored-socket.js';
import { type Errno, type NodeChange, parentPath, Store } from './xenstored-store.js';
import { removeOwned } from './xenstored-tree.js';
import { eventPath, type Watch, WatchIndex } from './xenstored-watches.js';

/** How an {@link EmulatedXenstored} differs from a freshly installed C daemon. */
export interface EmulatedXenstoredOptions {
  /** Limits of unprivileged domains that differ from {@link DEFAULT_XENSTORED_QUOTAS}. */
  readonly quotas?: Partial<XenstoredQuotas>;
  /** What the hypervisor would say: whether a domain exists. Without it every number is taken to be a domain. */
  readonly domainExists?: (domid: number) => boolean;
  /** A client asked for INTRODUCE of this domain with this event-channel port. */
  readonly onIntroduce?: (domid: number, port: number) => void;
  /** A client asked for RELEASE of this domain. */
  readonly onRelease?: (domid: number) => void;
  /**
   * Asked at every commit that would succeed: true makes it EAGAIN, as if another client had interfered. For tests of
   * clients, which must begin such a transaction anew.
   */
  readonly conflict?: () => boolean;
  /**
   * Which daemon to be. `4.22` adds to `4.17`, the default: features, quotas by domain, and watches with a depth, to
   * which special events tell the domain (`@releaseDomain/5`).
   */
  readonly release?: '4.17' | '4.22';
}

/** Requests that are carried out before the event loop gets its turn again. */
const REQUESTS_PER_TURN = 512;

const INTRODUCE_DOMAIN = '@introduceDomain';
const RELEASE_DOMAIN = '@releaseDomain';

/**
 * A xenstored in this process: the protocol of docs/misc/xenstore.txt with the C daemon's behaviour, on Unix sockets,
 * on rings in shared memory, and without either.
 */
export class EmulatedXenstored implements AsyncDisposable {
  readonly #quotas: MutableQuotas;
  readonly #store: Store;
  readonly #watches = new WatchIndex<Connection>();
  readonly #connections = new Set<Connection>();
  readonly #sockets = new Set<XenstoreSocket>();
  readonly #rings = new Map<number, RingServer>();
  readonly #host: RequestHost;
  readonly #special = new Map<string, readonly NodePermission[]>([
    [INTRODUCE_DOMAIN, [{ domid: 0, access: Access.none, stale: false }]],
    [RELEASE_DOMAIN, [{ domid: 0, access: Access.none, stale: false }]],
  ]);
  readonly #ready = new Set<Connection>();
  #scheduled = false;
  #budget = REQUESTS_PER_TURN;
  #budgetReset = false;
  /** The unprivileged domain whose request is being carried out. */
  #cause: DomainRecord | undefined;
  #closed = false;

  constructor(options: EmulatedXenstoredOptions = {}) {
    this.#quotas = { ...DEFAULT_XENSTORED_QUOTAS, ...options.quotas };
    const features = options.release === '4.22' ? Feature.error | Feature.watchDepth : 0;
    const defaults = { exists: options.domainExists ?? (() => true), quotas: this.#quotas, features };
    this.#store = new Store(
      (generation) => new DomainTable(defaults, generation),
      (change) => this.#fire(change),
    );
    this.#host = this.#requestHost(options, features);
  }

  #requestHost(options: EmulatedXenstoredOptions, features: number): RequestHost {
    return {
      store: this.#store,
      quotas: this.#quotas,
      features,
      conflict: options.conflict ?? (() => false),
      addWatch: (connection, watch) => this.#addWatch(connection, watch),
      removeWatch: (connection, watch) => this.#removeWatch(connection, watch),
      reset: (connection) => this.#reset(connection),
      introduce: (domid, port) => this.#introduceByClient(domid, port, options.onIntroduce),
      release: (domain) => {
        this.releaseDomain(domain.domid);
        options.onRelease?.(domain.domid);
      },
      setSpecialPermissions: (connection, name, permissions) =>
        this.#setSpecialPermissions(connection, name, permissions),
    };
  }

  /** How many nodes there are. */
  get nodeCount(): number {
    return this.#store.size;
  }

  /** How many watches all connections have. */
  get watchCount(): number {
    let count = 0;
    for (const connection of this.#connections) count += connection.watches.size;
    return count;
  }

  /**
   * Serves clients on a Unix socket, as domain 0. A stale socket of a process that is gone is replaced.
   * XenSysError `EADDRINUSE` when somebody serves there, `EEXIST` when something else than a socket is there,
   * `ENAMETOOLONG` over 107 bytes, or what the system says.
   */
  async listen(socketPath: string): Promise<void> {
    const socket = await XenstoreSocket.listen(socketPath, {
      accept: (port) => this.#open(this.#store.domains.domain0, port),
      input: (connection) => this.#schedule(connection),
      closed: (connection) => this.#drop(connection),
    });
    if (this.#closed) await socket.close();
    else this.#sockets.add(socket);
  }

  /**
   * A connection of a domain without a socket or a ring, for use in this thread. Each call makes another one with
   * watches and transactions of its own; quotas are the domain's.
   */
  connect(domid: number): XenstoreTransport {
    const domain = this.#domain(domid);
    return new InProcessTransport(`emulator:dom${domid}`, {
      open: (port) => this.#open(domain, port),
      input: (connection) => this.#schedule(connection),
      close: (connection) => this.#drop(connection),
    });
  }

  /** Tells that a domain is there: fires `@introduceDomain` unless it was known. */
  introduceDomain(domid: number): void {
    const domain = this.#domain(domid);
    if (domain.introduced) return;
    domain.introduced = true;
    this.#announce(INTRODUCE_DOMAIN, domid);
  }

  /**
   * Tells that a domain is gone. Its connections, watches and transactions end, the nodes that it owns are removed
   * with all below them, what it was permitted no later domain of the same number gets, and `@releaseDomain` fires:
   * as the C daemon does it.
   */
  releaseDomain(domid: number): void {
    const domain = this.#store.domains.get(domid);
    if (domain === undefined || domid === 0) return;
    this.#rings.get(domid)?.close();
    this.#rings.delete(domid);
    for (const connection of [...this.#connections]) {
      if (connection.domain === domain) connection.fail('the domain was released');
    }
    const domain0 = this.#store.domains.domain0;
    removeOwned({ view: this.#store, requester: domain0, domain: domain0 }, domain);
    this.#store.domains.forget(domid);
    for (const [name, permissions] of this.#special) this.#special.set(name, withoutDomain(permissions, domid));
    if (domain.introduced) this.#announce(RELEASE_DOMAIN, domid);
  }

  /** Tells that a domain shut down or crashed, but is still there: fires `@releaseDomain`, once until RESUME. */
  domainShutDown(domid: number): void {
    const domain = this.#store.domains.get(domid);
    if (!domain?.introduced || domain.shutDown) return;
    domain.shutDown = true;
    this.#announce(RELEASE_DOMAIN, domid);
  }

  /**
   * Serves a domain on the ring of its xenstore page (docs/misc/xenstore-ring.txt). The server is woken through the
   * page itself, see {@link RingPage}; a host with event channels calls `kick` of what this returns instead and gives
   * `notify`. A ring that the domain had before is closed.
   */
  attachRing(domid: number, page: RingPage, options: { notify?: () => void } = {}): RingServer {
    const domain = this.#domain(domid);
    this.#rings.get(domid)?.close();
    const ring = new RingServer(page, options.notify, {
      open: (port) => this.#open(domain, port),
      input: (connection) => this.#schedule(connection),
      closed: (connection) => this.#drop(connection),
    });
    this.#rings.set(domid, ring);
    return ring;
  }

  /** Ends all connections and sockets. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const ring of this.#rings.values()) ring.close();
    this.#rings.clear();
    for (const connection of [...this.#connections]) connection.fail('xenstored is closed');
    const sockets = [...this.#sockets];
    this.#sockets.clear();
    await Promise.all(sockets.map((socket) => socket.close()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #domain(domid: number): DomainRecord {
    const domain = this.#store.domains.open(domid);
    if (domain === undefined) {
      throw new RangeError(`there is no domain ${domid}; domids are 0 to ${FIRST_RESERVED_DOMID - 1}`);
    }
    return domain;
  }

  #open(domain: DomainRecord, port: ConnectionPort): Connection {
    const connection = new Connection(domain, (relieved) => this.#relieved(relieved), port);
    if (this.#closed) queueMicrotask(() => connection.fail('xenstored is closed'));
    this.#connections.add(connection);
    return connection;
  }

  #drop(connection: Connection): void {
    if (!this.#connections.delete(connection)) return;
    this.#ready.delete(connection);
    this.#reset(connection);
    connection.close();
  }

  #relieved(domain: DomainRecord): void {
    for (const connection of this.#connections) {
      if (connection.domain !== domain) continue;
      connection.port.mayBringMore?.();
      this.#schedule(connection);
    }
  }

  #schedule(connection: Connection): void {
    if (!connection.ready) return;
    this.#ready.add(connection);
    if (this.#scheduled) return;
    this.#scheduled = true;
    if (this.#budget > 0) queueMicrotask(() => this.#run());
    else setImmediate(() => this.#run());
  }

  /** One request of each connection that has some, round and round, as long as the turn lasts. */
  #run(): void {
    this.#renewBudget();
    for (const connection of this.#ready) {
      if (this.#budget <= 0) break;
      this.#budget--;
      this.#ready.delete(connection);
      if (connection.closed || !connection.ready) continue;
      this.#carryOut(connection);
      if (connection.idle) connection.port.mayBringMore?.();
      if (connection.ready) this.#ready.add(connection);
    }
    this.#scheduled = false;
    const waiting = this.#ready.values().next().value;
    if (waiting !== undefined) this.#schedule(waiting);
  }

  /** Without this, clients in this process that only await one another would never let timers or sockets run. */
  #renewBudget(): void {
    if (this.#budgetReset) return;
    this.#budgetReset = true;
    setImmediate(() => {
      this.#budgetReset = false;
      this.#budget = REQUESTS_PER_TURN;
    });
  }

  #carryOut(connection: Connection): void {
    const request = connection.nextRequest()!;
    this.#cause = connection.domain.privileged ? undefined : connection.domain;
    processRequest(this.#host, connection, request);
    this.#cause = undefined;
  }

  #addWatch(connection: Connection, watch: Omit<Watch<Connection>, 'order' | 'watcher'>): Watch<Connection> {
    const added = this.#watches.add({ ...watch, watcher: connection });
    connection.watches.set(`${watch.path}\0${watch.token}`, added);
    connection.domain.watches++;
    return added;
  }

  #removeWatch(connection: Connection, watch: Watch<Connection>): void {
    this.#watches.remove(watch);
    connection.watches.delete(`${watch.path}\0${watch.token}`);
    connection.domain.watches--;
  }

  #reset(connection: Connection): void {
    for (const watch of [...connection.watches.values()]) this.#removeWatch(connection, watch);
    for (const transaction of connection.transactions.values()) transaction.abort();
    connection.domain.transactions -= connection.transactions.size;
    connection.transactions.clear();
  }

  #fire(change: NodeChange): void {
    const matching = this.#watches.matching(change.path, change.exact);
    for (const watch of matching) {
      const { watcher } = watch;
      if (this.#mayHear(watcher, change)) watcher.sendEvent(eventPath(watch, change.path), watch.token, this.#cause);
    }
  }

  /** Fires a special watch. One with a depth is told which domain it is about. */
  #announce(name: string, domid: number): void {
    const permissions = this.#special.get(name)!;
    for (const watch of this.#watches.matching(name, true)) {
      const { watcher, depth, token } = watch;
      if (!(accessOf(permissions, watcher.requester) & Access.read)) continue;
      watcher.sendEvent(depth === undefined || depth < 1 ? name : `${name}/${domid}`, token);
    }
  }

  /** A domain hears of nodes that it can read, or whose directory it can read, now or before the change. */
  #mayHear(watcher: Connection, change: NodeChange): boolean {
    const may = (permissions: readonly NodePermission[] | undefined): boolean =>
      permissions !== undefined && (accessOf(permissions, watcher.requester) & Access.read) !== 0;
    if (may(change.before)) return true;
    const node = change.node ?? this.#store.read(change.path);
    if (node === undefined) return false;
    return may(node.permissions) || may(this.#store.read(parentPath(change.path))?.permissions);
  }

  #introduceByClient(domid: number, port: number, then?: (domid: number, port: number) => void): Errno | undefined {
    const domain = this.#store.domains.open(domid);
    if (domain === undefined) return 'EINVAL';
    if (!domain.introduced) this.introduceDomain(domid);
    // A domain that was saved and restored begins anew.
    else for (const connection of this.#connections) if (connection.domain === domain) this.#reset(connection);
    then?.(domid, port);
    return undefined;
  }

  #setSpecialPermissions(
    connection: Connection,
    name: string,
    permissions: readonly NodePermission[],
  ): Errno | undefined {
    const current = this.#special.get(name);
    if (current === undefined) return 'EINVAL';
    const wanted = Access.write | Access.owner;
    if ((accessOf(current, connection.requester) & wanted) !== wanted) return 'EACCES';
    this.#special.set(name, permissions);
    return undefined;
  }
}

/** Permissions of a special name after a domain is gone. */
function withoutDomain(permissions: readonly NodePermission[], domid: number): readonly NodePermission[] {
  const [owner, ...others] = permissions;
  return [
    owner!.domid === domid ? { ...owner!, domid: 0 } : owner!,
    ...others.filter((entry) => entry.domid !== domid),
  ];
}
