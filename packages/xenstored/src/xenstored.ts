import { XenSysError, type XenstoreTransport } from '@xenpv/xen-sys';
import { Feature, type RequestHost } from './connection/call.js';
import { Connection, type ConnectionPort } from './connection/connection.js';
import { type DomainRecord, DomainTable } from './connection/domains.js';
import { FIRST_RESERVED_DOMID } from './connection/domids.js';
import { DEFAULT_XENSTORED_QUOTAS, type MutableQuotas, type XenstoredQuotas } from './connection/quota.js';
import { RequestScheduler } from './connection/scheduler.js';
import { InProcessTransport } from './ports/in-process.js';
import type { RingPage } from './ports/ring-page.js';
import { RingServer } from './ports/ring-server.js';
import { SocketPort } from './ports/socket.js';
import { processRequest } from './requests/dispatch.js';
import { type Errno, Store } from './tree/store.js';
import { removeOwned } from './tree/tree.js';
import { Events } from './watches/events.js';

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
  readonly version?: '4.17' | '4.22';
}

/**
 * A xenstored in this process: the protocol of docs/misc/xenstore.txt with the C daemon's behaviour, on Unix sockets,
 * on rings in shared memory, and without either.
 */
export class EmulatedXenstored implements AsyncDisposable {
  readonly #quotas: MutableQuotas;
  readonly #store: Store;
  readonly #events: Events;
  readonly #scheduler: RequestScheduler;
  readonly #host: RequestHost;
  readonly #sockets = new Set<SocketPort>();
  readonly #rings = new Map<number, RingServer>();
  /** The unprivileged domain whose request is being carried out. */
  #cause: DomainRecord | undefined;
  #closed = false;

  constructor(options: EmulatedXenstoredOptions = {}) {
    this.#quotas = { ...DEFAULT_XENSTORED_QUOTAS, ...options.quotas };
    const features = options.version === '4.22' ? Feature.error | Feature.watchDepth : 0;
    const defaults = { exists: options.domainExists ?? (() => true), quotas: this.#quotas, features };
    this.#store = new Store(
      (generation) => new DomainTable(defaults, generation),
      (change) => this.#events.fire(change, this.#cause),
    );
    this.#events = new Events((path) => this.#store.read(path));
    this.#scheduler = new RequestScheduler((connection) => this.#carryOut(connection));
    this.#host = this.#requestHost(options, features);
  }

  #requestHost(options: EmulatedXenstoredOptions, features: number): RequestHost {
    return {
      store: this.#store,
      quotas: this.#quotas,
      features,
      conflict: options.conflict ?? (() => false),
      events: this.#events,
      reset: (connection) => this.#reset(connection),
      introduce: (domid, port) => this.#introduceByClient(domid, port, options.onIntroduce),
      release: (domain) => {
        this.releaseDomain(domain.domid);
        options.onRelease?.(domain.domid);
      },
    };
  }

  /** How many nodes there are. */
  get nodeCount(): number {
    return this.#store.size;
  }

  /** How many watches all connections have. */
  get watchCount(): number {
    let count = 0;
    for (const domain of this.#store.domains) count += domain.watches;
    return count;
  }

  /**
   * Serves clients on a Unix socket, as domain 0. A stale socket of a process that is gone is replaced.
   * XenSysError `EADDRINUSE` when somebody serves there, `EEXIST` when something else than a socket is there,
   * `ENAMETOOLONG` over 107 bytes, or what the system says.
   */
  async listen(socketPath: string): Promise<void> {
    const socket = await SocketPort.listen(socketPath, {
      open: (port) => this.#open(this.#store.domains.domain0, port),
      input: (connection) => this.#scheduler.add(connection),
      closed: (connection) => this.#drop(connection),
    });
    if (this.#closed) await socket.close();
    else this.#sockets.add(socket);
  }

  /**
   * A connection of a domain without a socket or a ring, for use in this thread. Each call makes another one with
   * watches and transactions of its own; quotas are the domain's. XenSysError `ESRCH` when there is no such domain.
   */
  connect(domid: number): XenstoreTransport {
    const domain = this.#domain(domid);
    return new InProcessTransport(`emulator:dom${domid}`, {
      open: (port) => this.#open(domain, port),
      input: (connection) => this.#scheduler.add(connection),
      close: (connection) => this.#drop(connection),
    });
  }

  /** Tells that a domain is there: fires `@introduceDomain` unless it was known. */
  introduceDomain(domid: number): void {
    const domain = this.#domain(domid);
    if (domain.introduced) return;
    domain.introduced = true;
    this.#events.announce('@introduceDomain', domid);
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
    for (const connection of [...domain.connections]) connection.fail('the domain was released');
    const domain0 = this.#store.domains.domain0;
    removeOwned({ view: this.#store, requester: domain0, domain: domain0 }, domain);
    this.#store.domains.forget(domid);
    this.#events.forget(domid);
    if (domain.introduced) this.#events.announce('@releaseDomain', domid);
  }

  /** Tells that a domain shut down or crashed, but is still there: fires `@releaseDomain`, once until RESUME. */
  domainShutDown(domid: number): void {
    const domain = this.#store.domains.get(domid);
    if (!domain?.introduced || domain.shutDown) return;
    domain.shutDown = true;
    this.#events.announce('@releaseDomain', domid);
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
      input: (connection) => this.#scheduler.add(connection),
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
    for (const domain of this.#store.domains) {
      for (const connection of [...domain.connections]) connection.fail('xenstored is closed');
    }
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
      const message = `there is no domain ${domid}; domids are 0 to ${FIRST_RESERVED_DOMID - 1}`;
      throw new XenSysError('ESRCH', 'xenstored.connect', message);
    }
    return domain;
  }

  #open(domain: DomainRecord, port: ConnectionPort): Connection {
    const connection = new Connection(domain, (relieved) => this.#relieved(relieved), port);
    if (this.#closed) queueMicrotask(() => connection.fail('xenstored is closed'));
    domain.connections.add(connection);
    return connection;
  }

  #drop(connection: Connection): void {
    if (!connection.domain.connections.delete(connection)) return;
    this.#scheduler.delete(connection);
    this.#reset(connection);
    connection.close();
  }

  #relieved(domain: DomainRecord): void {
    for (const connection of domain.connections) {
      connection.port.mayBringMore?.();
      this.#scheduler.add(connection);
    }
  }

  #carryOut(connection: Connection): void {
    const request = connection.nextRequest()!;
    this.#cause = connection.domain.privileged ? undefined : connection.domain;
    processRequest(this.#host, connection, request);
    this.#cause = undefined;
  }

  #reset(connection: Connection): void {
    for (const watch of [...connection.watches.values()]) this.#events.removeWatch(connection, watch);
    for (const transaction of connection.transactions.values()) transaction.abort();
    connection.domain.transactions -= connection.transactions.size;
    connection.transactions.clear();
  }

  #introduceByClient(domid: number, port: number, then?: (domid: number, port: number) => void): Errno | undefined {
    const domain = this.#store.domains.open(domid);
    if (domain === undefined) return 'EINVAL';
    if (!domain.introduced) this.introduceDomain(domid);
    // A domain that was saved and restored begins anew.
    else for (const connection of domain.connections) this.#reset(connection);
    then?.(domid, port);
    return undefined;
  }
}
