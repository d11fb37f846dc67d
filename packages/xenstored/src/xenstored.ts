/**
 * The daemon: joins the tree, the watches, the connections and the ports. In come messages, from clients that may send
 * anything. One request at a time is carried out, whole, and never within the call that brought it; its events go out
 * before its reply, as the C daemon's do. Nothing that a client sends throws, ends the daemon or another connection, or
 * takes more than the quotas of its domain.
 */
import { DOMID_FIRST_RESERVED, type Domid, type EvtchnPort, XenSysError, type XenstoreTransport } from '@xenpv/xen-sys';
import { Feature, type RequestHost } from './connection/call.js';
import type { ServerConnection } from './connection/connection.js';
import { Connections } from './connection/connections.js';
import { type DomainRecord, DomainTable } from './connection/domains.js';
import type { MutableQuotas } from './connection/limits.js';
import { limitQuotas } from './connection/limits.js';
import { Interceptors, type XenstoredInterceptor } from './interceptors.js';
import { InProcessPort, type Schedule } from './ports/in-process.js';
import type { RingPage } from './ports/ring-page.js';
import { type AttachedRing, RingPort } from './ports/ring-port.js';
import { SocketListener } from './ports/socket.js';
import { processRequest } from './requests/dispatch.js';
import { DEFAULT_XENSTORED_QUOTAS, type XenstoredQuotas } from './tree/quotas.js';
import { type ErrnoName, Store } from './tree/store.js';
import { removeOwned } from './tree/tree.js';
import { Events } from './watches/events.js';

/** How an {@link EmulatedXenstored} differs from a freshly installed C daemon. */
export interface EmulatedXenstoredOptions {
  /** Limits of unprivileged domains that differ from {@link DEFAULT_XENSTORED_QUOTAS}. */
  readonly quotas?: Partial<XenstoredQuotas> | undefined;
  /** What the hypervisor would say: whether a domain exists. Without it every number is taken to be a domain. */
  readonly domainExists?: ((domid: Domid) => boolean) | undefined;
  /** A client asked for INTRODUCE of this domain with this event-channel port. */
  readonly onIntroduce?: ((domid: Domid, port: EvtchnPort) => void) | undefined;
  /** A client asked for RELEASE of this domain. */
  readonly onRelease?: ((domid: Domid) => void) | undefined;
  /**
   * Asked at every commit that would succeed: true makes it EAGAIN, as if another client had interfered. For tests of
   * clients, which must begin such a transaction anew.
   */
  readonly conflict?: (() => boolean) | undefined;
  /**
   * Decides when a request of a client in this process reaches the daemon, and when such a client is given what the daemon
   * has for it. Whatever the order is, a connection's requests, answers and events keep theirs. At once, and in a microtask,
   * if it is not given.
   */
  readonly schedule?: Schedule | undefined;
  /**
   * Which daemon to be. `4.22` adds to `4.17`, the default: features, quotas by domain, and watches with a depth, to
   * which special events tell the domain (`@releaseDomain/5`).
   */
  readonly version?: '4.17' | '4.22' | undefined;
}

/**
 * A xenstored in this process: the protocol of docs/misc/xenstore.txt with the C daemon's behaviour, on Unix sockets,
 * on rings in shared memory, and without either.
 */
export class EmulatedXenstored implements AsyncDisposable {
  readonly #domains: DomainTable;
  readonly #store: Store;
  readonly #events: Events;
  readonly #connections: Connections;
  readonly #schedule: Schedule | undefined;
  /** Listening sockets, and whose they are. */
  readonly #sockets = new Map<SocketListener, number>();
  readonly #interceptors = new Interceptors(() => {
    this.#events.interceptor = this.#interceptors.event;
    this.#connections.admits = this.#interceptors.admits;
  });
  readonly #rings = new Map<number, RingPort>();
  /** The unprivileged domain whose request is being carried out. */
  #cause: DomainRecord | undefined;
  #closed = false;

  constructor(options: EmulatedXenstoredOptions = {}) {
    this.#schedule = options.schedule;
    const quotas: MutableQuotas = { ...DEFAULT_XENSTORED_QUOTAS, ...options.quotas };
    const features = options.version === '4.22' ? Feature.error | Feature.watchDepth : 0;
    const exists = options.domainExists ?? (() => true);
    const relieved = (domain: DomainRecord): void => this.#connections.relieve(domain);
    this.#domains = new DomainTable({ exists, quotas, features, relieved }, () => this.#store.generation);
    this.#store = new Store(this.#domains, (change) => this.#events.fire(change, this.#cause));
    this.#events = new Events((path) => this.#store.read(path));
    const host = this.#requestHost(options, quotas, features);
    this.#connections = new Connections(this.#events, (connection) => this.#carryOut(host, connection));
  }

  #requestHost(options: EmulatedXenstoredOptions, quotas: MutableQuotas, features: number): RequestHost {
    return {
      store: this.#store,
      domains: this.#domains,
      quotas,
      features,
      conflict: (domid) => {
        const intercepted = this.#interceptors.conflict(domid);
        return options.conflict?.() === true || intercepted;
      },
      refused: (domid, error) => this.#interceptors.refused(domid, error),
      events: this.#events,
      reset: (connection) => this.#connections.reset(connection),
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
    for (const domain of this.#domains) count += domain.watches;
    return count;
  }

  /**
   * Serves clients on a Unix socket, as domain 0 or as the one given, until that is released. A stale socket of a process that is gone is replaced.
   * XenSysError `EADDRINUSE` if another process serves there, `EEXIST` if the file is no socket,
   * `ENAMETOOLONG` over 107 bytes, or what the system says.
   */
  async listen(socketPath: string, domid = 0): Promise<void> {
    const socket = await SocketListener.listen(socketPath, this.#connections.hostFor(this.#domain(domid)));
    if (this.#closed) await socket.close();
    else this.#sockets.set(socket, domid);
  }

  /**
   * A connection of a domain without a socket or a ring, for use in this thread. Each call makes another one with
   * watches and transactions of its own; quotas are the domain's. XenSysError `ESRCH` if there is no such domain.
   */
  connect(domid: Domid): XenstoreTransport {
    return new InProcessPort(`emulator:dom${domid}`, this.#connections.hostFor(this.#domain(domid)), this.#schedule);
  }

  /** Has things go otherwise than they would, for tests, until what this returns is called. Any number at the same time. */
  intercept(interceptor: XenstoredInterceptor): () => void {
    return this.#interceptors.add(interceptor);
  }

  /**
   * Gives a domain other limits than it has, domain 0 too; what this returns undoes it. XenSysError `ESRCH` if there is no
   * such domain.
   */
  limit(domid: Domid, quotas: Partial<XenstoredQuotas>): () => void {
    return limitQuotas(this.#domain(domid).quotas, quotas);
  }

  /**
   * Ends the connections of a domain, as a restart of the daemon would, but for that of `except`, one that
   * {@link connect} gave. Returns how many. They may connect again.
   */
  disconnect(domid: Domid, options: { readonly except?: XenstoreTransport | undefined } = {}): number {
    const { except } = options;
    const spared = except instanceof InProcessPort ? except : undefined;
    const domain = this.#domains.get(domid);
    return domain === undefined ? 0 : this.#connections.end(domain, 'the connection was ended', spared);
  }

  /** Tells that a domain is there: fires `@introduceDomain` unless it was known. */
  introduceDomain(domid: Domid): void {
    const domain = this.#domain(domid);
    if (domain.introduced) return;
    domain.introduced = true;
    this.#events.announce('@introduceDomain', domid);
  }

  /**
   * Tells that a domain is gone, with the consequences that the C daemon draws. Its connections, watches and
   * transactions end. The nodes that it owns are removed with all below them. A later domain of the same number does
   * not inherit its permissions. `@releaseDomain` fires.
   */
  releaseDomain(domid: Domid): void {
    const domain = this.#domains.get(domid);
    if (domain === undefined || domid === 0) return;
    this.#rings.get(domid)?.close();
    this.#rings.delete(domid);
    for (const [socket, owner] of this.#sockets) {
      if (owner !== domid) continue;
      this.#sockets.delete(socket);
      void socket.close();
    }
    this.#connections.end(domain, 'the domain was released');
    removeOwned({ view: this.#store, domain: this.#domains.domain0 }, domain);
    this.#domains.forget(domid);
    this.#events.forget(domid);
    if (domain.introduced) this.#events.announce('@releaseDomain', domid);
  }

  /** Tells that a domain shut down or crashed, but is still there: fires `@releaseDomain`, once until RESUME. */
  domainShutDown(domid: Domid): void {
    const domain = this.#domains.get(domid);
    if (!domain?.introduced || domain.shutDown) return;
    domain.shutDown = true;
    this.#events.announce('@releaseDomain', domid);
  }

  /**
   * Serves a domain on the ring of its xenstore page (docs/misc/xenstore-ring.txt). The server is woken through the
   * page itself, see {@link RingPage}; a host with event channels calls `kick` of what this returns instead and gives
   * `notify`. A ring that the domain had before is closed.
   */
  attachRing(domid: Domid, page: RingPage, options: { readonly notify?: (() => void) | undefined } = {}): AttachedRing {
    const domain = this.#domain(domid);
    this.#rings.get(domid)?.close();
    const ring = new RingPort(page, options.notify, this.#connections.hostFor(domain));
    this.#rings.set(domid, ring);
    return ring;
  }

  /** Ends all connections and sockets. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const ring of this.#rings.values()) ring.close();
    this.#rings.clear();
    this.#connections.close();
    const sockets = [...this.#sockets.keys()];
    this.#sockets.clear();
    await Promise.all(sockets.map((socket) => socket.close()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #domain(domid: Domid): DomainRecord {
    const domain = this.#domains.open(domid);
    if (domain === undefined) {
      const message = `there is no domain ${domid}; domids are 0 to ${DOMID_FIRST_RESERVED - 1}`;
      throw new XenSysError('ESRCH', 'xenstored.connect', message);
    }
    return domain;
  }

  #carryOut(host: RequestHost, connection: ServerConnection): void {
    const request = connection.nextRequest();
    if (request === undefined) return;
    this.#cause = connection.domain.privileged ? undefined : connection.domain;
    processRequest(host, connection, request);
    this.#cause = undefined;
  }

  #introduceByClient(
    domid: Domid,
    port: EvtchnPort,
    then?: (domid: Domid, port: EvtchnPort) => void,
  ): ErrnoName | undefined {
    const domain = this.#domains.open(domid);
    if (domain === undefined) return 'EINVAL';
    if (!domain.introduced) this.introduceDomain(domid);
    // A domain that was saved and restored begins anew.
    else this.#connections.resetAll(domain);
    then?.(domid, port);
    return undefined;
  }
}
