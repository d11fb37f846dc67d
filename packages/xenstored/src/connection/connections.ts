import type { Events } from '../watches/events.js';
import { ServerConnection } from './connection.js';
import type { DomainRecord } from './domains.js';
import type { Port } from './port.js';
import { RequestScheduler } from './scheduler.js';

/** What a port asks of the daemon. */
export interface PortHost {
  /** Opens the connection whose bytes the port will move. */
  open(port: Port): ServerConnection;
  /** Requests were put into the connection. */
  input(connection: ServerConnection): void;
  /** The port moves no more bytes. Harmless when repeated. */
  closed(connection: ServerConnection): void;
}

/** The open connections, by domain. */
export class Connections {
  readonly #byDomain = new Map<DomainRecord, Set<ServerConnection>>();
  readonly #events: Events;
  readonly #scheduler: RequestScheduler;
  /** For tests: whether a new connection of a domain may stay. */
  admits: ((domid: number) => boolean) | undefined;
  #closed = false;

  /** `carryOut` carries out the next request of a connection. */
  constructor(events: Events, carryOut: (connection: ServerConnection) => void) {
    this.#events = events;
    this.#scheduler = new RequestScheduler(carryOut);
  }

  /** What a port of `domain` is given. */
  hostFor(domain: DomainRecord): PortHost {
    return {
      open: (port) => this.#open(domain, port),
      input: (connection) => this.#scheduler.add(connection),
      closed: (connection) => this.#drop(connection),
    };
  }

  /** Goes on with a domain that is congested no more. */
  relieve(domain: DomainRecord): void {
    for (const connection of this.#of(domain)) {
      connection.port.mayBringMore?.();
      this.#scheduler.add(connection);
    }
  }

  /** Ends all transactions and watches of a connection. */
  reset(connection: ServerConnection): void {
    for (const watch of [...connection.watches.values()]) this.#events.removeWatch(watch);
    for (const transaction of connection.transactions.values()) transaction.abort();
    connection.domain.transactions -= connection.transactions.size;
    connection.transactions.clear();
  }

  /** Ends all transactions and watches of a domain, which begins anew. */
  resetAll(domain: DomainRecord): void {
    for (const connection of this.#of(domain)) this.reset(connection);
  }

  /** Ends the connections of a domain, but that of `except`; returns how many. */
  end(domain: DomainRecord, reason: string, except?: Port): number {
    const ending = [...this.#of(domain)].filter(({ port }) => port !== except);
    for (const connection of ending) connection.fail(reason);
    return ending.length;
  }

  /** Ends all connections, and each that is opened from now on. */
  close(): void {
    this.#closed = true;
    for (const domain of [...this.#byDomain.keys()]) this.end(domain, CLOSED);
  }

  #of(domain: DomainRecord): Iterable<ServerConnection> {
    return this.#byDomain.get(domain) ?? [];
  }

  #open(domain: DomainRecord, port: Port): ServerConnection {
    const connection = new ServerConnection(domain, port);
    if (this.#closed) queueMicrotask(() => connection.fail(CLOSED));
    else if (this.admits?.(domain.domid) === false) queueMicrotask(() => connection.fail('the connection was ended'));
    const others = this.#byDomain.get(domain);
    if (others === undefined) this.#byDomain.set(domain, new Set([connection]));
    else others.add(connection);
    return connection;
  }

  #drop(connection: ServerConnection): void {
    const all = this.#byDomain.get(connection.domain);
    if (!all?.delete(connection)) return;
    if (all.size === 0) this.#byDomain.delete(connection.domain);
    this.#scheduler.delete(connection);
    this.reset(connection);
    connection.close();
  }
}

const CLOSED = 'xenstored is closed';
