import type { XenstoreClient } from '@xenpv/xenstore';
import type { DeviceReading } from '../device-nodes.js';
import { knownAgainChannel, orphanedChannel } from '../diagnostics.js';
import { errorCode } from '../errors.js';
import { type DeviceAddress, domainPath } from '../paths.js';
import { XenbusState } from '../states.js';

export interface OrphanOptions {
  readonly store: XenstoreClient;
  readonly ownDomid: number;
  readonly address: DeviceAddress;
}

/** What a domain's directory has though its tree is lost: we write the one, and toolstacks the other for new devices. */
const NO_SIGN_OF_LIFE = ['backend', 'error'];

/**
 * Tells a device that the toolstack took away from one that xenstored has lost with its whole tree, because another
 * xenstored was started that knows nothing. The latter has a frontend that lives on and needs no xenstore for its rings.
 *
 * It was taken away if the directory of all backends is still there, or the frontend's domain without its half of the
 * device. Otherwise it is lost, if the client has connected again since the device was seen, if the frontend's half is
 * there, or if the own domain has lost all else, too. Then it is an orphan, until both halves are there again, or its
 * domain is gone that xenstored knew after the loss.
 */
export class Orphan {
  readonly #options: OrphanOptions;
  /** Of the client, when the device was last seen. */
  #connections: number;
  #since: Date | undefined;
  /** Seen since the tree was lost, by the connection that there is. */
  #seen = { domain: false, frontend: false };

  constructor(options: OrphanOptions) {
    this.#options = options;
    this.#connections = options.store.connections;
  }

  /** Since when it is one, or undefined. */
  get since(): Date | undefined {
    return this.#since;
  }

  /** Whether it is one, by what was just read of a device that is served, or is to be. */
  async look(reading: DeviceReading): Promise<boolean> {
    const { store } = this.#options;
    const isThere = reading.backend !== undefined;
    if (this.#since === undefined) {
      if (isThere) this.#connections = store.connections;
      else if (await this.#isLost(reading)) {
        this.#begin();
        await this.#isGone(reading);
      }
      return this.#since !== undefined;
    }
    if (store.connections !== this.#connections) this.#begin();
    if (isThere && reading.frontend !== XenbusState.unknown) this.#end();
    else if (await this.#isGone(reading)) this.#since = undefined;
    return this.#since !== undefined;
  }

  async #isLost({ frontend }: DeviceReading): Promise<boolean> {
    const { store, ownDomid, address } = this.#options;
    const own = domainPath(ownDomid);
    if (await store.exists(`${own}/backend`)) return false;
    if (frontend !== XenbusState.unknown) return true;
    if (await this.#isSeen(domainPath(address.domid))) return false;
    if (store.connections !== this.#connections) return true;
    const others = (await store.tryDirectory(own)) ?? [];
    return others.every((name) => NO_SIGN_OF_LIFE.includes(name));
  }

  #begin(): void {
    const { store, address } = this.#options;
    this.#connections = store.connections;
    this.#seen = { domain: false, frontend: false };
    if (this.#since !== undefined) return;
    this.#since = new Date();
    orphanedChannel.publish({ address, since: this.#since });
  }

  #end(): void {
    knownAgainChannel.publish({ address: this.#options.address, since: this.#since });
    this.#since = undefined;
  }

  /** Only what was seen can go. A driver domain may not ask xenstored for domains, but see their directories. */
  async #isGone({ frontend }: DeviceReading): Promise<boolean> {
    const { store, address } = this.#options;
    const now = {
      frontend: frontend !== XenbusState.unknown,
      domain:
        (await this.#isSeen(domainPath(address.domid))) ||
        (await store.isDomainIntroduced(address.domid).catch(() => false)),
    };
    const before = this.#seen;
    this.#seen = { domain: before.domain || now.domain, frontend: before.frontend || now.frontend };
    return (before.domain && !now.domain) || (before.frontend && !now.frontend);
  }

  /** A driver domain may not look at the nodes of a guest that is gone. */
  #isSeen(path: string): Promise<boolean> {
    return this.#options.store.exists(path).catch((error) => {
      if (errorCode(error) === 'EACCES') return false;
      throw error;
    });
  }
}
