import type { XenstoreTransport } from '@xenpv/xen-sys';
import { WireConnection } from './wire-connection.js';

/** The servers whose behaviour is known. */
export type ServerKind = 'xenstored' | 'xenstored-4.20' | 'oxenstored' | 'oxenstored-4.20' | 'emulator';

/** A server that the suite runs against. Its store is changed under `/case` and `/local/domain/<N>` only. */
export interface ConformanceTarget {
  /** Whose known differences are allowed. */
  readonly kind: ServerKind;
  /** A new connection of domain 0. */
  connect(): Promise<XenstoreTransport>;
  /** Makes up domain `domid`, introduces it, and gives its own connection. Absent: cases with guests are left out. */
  connectGuest?(domid: number): Promise<XenstoreTransport>;
  /** Releases a domain that {@link connectGuest} made. */
  removeGuest?(domid: number): Promise<void>;
}

/** {@link ConformanceTarget.connectGuest} of a server that has it. */
export function connectGuest(target: ConformanceTarget, domid: number): Promise<XenstoreTransport> {
  if (target.connectGuest === undefined) throw new Error(`${target.kind} gives no connection of another domain`);
  return target.connectGuest(domid);
}

/** A domain of a case. */
export interface Guest {
  /** Its number. */
  readonly domid: number;
  /** `/local/domain/<domid>`, owned by the domain. */
  readonly home: string;
  /** A connection of its own. */
  readonly wire: WireConnection;
}

/** High and unlike any other number in a case, so that {@link Scene.masked} finds it. */
let nextDomid = 31001;

/** What a case works with: connections, made when it asks for them, all gone afterwards. */
export class Scene {
  /** A connection of domain 0. */
  readonly a: WireConnection;
  /** Another one. */
  readonly b: WireConnection;
  readonly #target: ConformanceTarget;
  readonly #opened: WireConnection[];
  readonly #domids: number[] = [];
  readonly #removed = new Set<number>();

  private constructor(target: ConformanceTarget, a: WireConnection, b: WireConnection) {
    this.#target = target;
    this.a = a;
    this.b = b;
    this.#opened = [a, b];
  }

  static async set(target: ConformanceTarget): Promise<Scene> {
    const a = new WireConnection(await target.connect());
    const b = new WireConnection(await target.connect());
    const scene = new Scene(target, a, b);
    await a.remove('/case');
    await a.log();
    return scene;
  }

  /** One more connection of domain 0. */
  async open(): Promise<WireConnection> {
    const connection = new WireConnection(await this.#target.connect());
    this.#opened.push(connection);
    return connection;
  }

  /** A new domain. Its number is different each time; {@link masked} hides it. */
  async guest(): Promise<Guest> {
    const domid = nextDomid++;
    this.#domids.push(domid);
    const wire = new WireConnection(await connectGuest(this.#target, domid));
    this.#opened.push(wire);
    const home = `/local/domain/${domid}`;
    await this.a.mkdir(home);
    await this.a.permit(home, `n${domid}`);
    return { domid, home, wire };
  }

  /** Takes a domain away before the end of the case. */
  async remove(guest: Guest): Promise<void> {
    this.#removed.add(guest.domid);
    await guest.wire.close();
    await this.#target.removeGuest?.(guest.domid);
  }

  /** An observation with letters for the numbers of the guests: the first is G, the second H. */
  masked(observation: unknown): unknown {
    const text = this.#domids.reduce(
      (masked, domid, index) => masked.replaceAll(String(domid), 'GHIJ'[index]),
      JSON.stringify(observation),
    );
    return JSON.parse(text);
  }

  /** Closes every connection, and takes away what the case has made: `/case` and its domains. */
  async clear(): Promise<void> {
    const cleaner = new WireConnection(await this.#target.connect());
    await cleaner.remove('/case');
    for (const connection of this.#opened) await connection.close();
    for (const domid of this.#domids) {
      if (!this.#removed.has(domid)) await this.#target.removeGuest?.(domid);
      await cleaner.remove(`/local/domain/${domid}`);
    }
    await cleaner.close();
  }
}
