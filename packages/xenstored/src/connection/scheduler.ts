/**
 * Decides when requests are carried out. In come connections that may have one. Each is served in turn, one request at a
 * time, in a microtask: soon, but not within the call that brought the request. After a number of requests the event loop
 * gets its turn, so that clients in this process which only await one another never keep timers and sockets waiting.
 */
import type { ServerConnection } from './connection.js';

/** Requests that are carried out before the event loop gets its turn again. */
const REQUESTS_PER_TURN = 512;

/** The connections that have requests to be carried out. */
export class RequestScheduler {
  readonly #carryOut: (connection: ServerConnection) => void;
  readonly #ready = new Set<ServerConnection>();
  #scheduled = false;
  #budget = REQUESTS_PER_TURN;
  #renewal = false;

  /** `carryOut` carries out the next request of a connection. */
  constructor(carryOut: (connection: ServerConnection) => void) {
    this.#carryOut = carryOut;
  }

  /** A connection may have requests that can be carried out. */
  add(connection: ServerConnection): void {
    if (!connection.ready) return;
    this.#ready.add(connection);
    if (this.#scheduled) return;
    this.#scheduled = true;
    if (this.#budget > 0) queueMicrotask(() => this.#run());
    else setImmediate(() => this.#run());
  }

  /** Forgets a connection. */
  delete(connection: ServerConnection): void {
    this.#ready.delete(connection);
  }

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
    if (waiting !== undefined) this.add(waiting);
  }

  #renewBudget(): void {
    if (this.#renewal) return;
    this.#renewal = true;
    setImmediate(() => {
      this.#renewal = false;
      this.#budget = REQUESTS_PER_TURN;
    });
  }
}
