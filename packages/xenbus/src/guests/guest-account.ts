import type { Domid } from '@xenpv/xen-sys';
import { type Pace, TokenBucket } from './token-bucket.js';

/** What a guest has made the bus do, by its frontends, since its first device was found. */
export interface GuestCounters {
  /** The guest: the frontends' domain. */
  readonly domid: Domid;
  /** Of the states of its frontends. */
  readonly watchEvents: number;
  /** Those that were not looked at at once, but together with later ones. */
  readonly watchEventsDelayed: number;
  /** Connections of devices that had been connected before. */
  readonly reconnects: number;
  /** Those that had to wait. */
  readonly reconnectsDelayed: number;
  /** Writes of error nodes. */
  readonly errorNodes: number;
  /** Those that had to wait, or were replaced by a later one meanwhile. */
  readonly errorNodesDelayed: number;
}

/** How fast a guest may make the bus do things. Each of its devices adds 16 to the bursts of looks and steps. */
export interface GuestPaces {
  /** Looks at its devices because of a watch event of a frontend. */
  readonly looks: Pace;
  /** Steps of its devices that it has asked for: a state that is written takes 1 token, `connect` 4, `prepare` 8. */
  readonly steps: Pace;
  /** Writes of error nodes. */
  readonly errorNodes: Pace;
}

/** A device that is used as usual, with resets and crash kernels, never waits. */
export const GUEST_PACES: GuestPaces = {
  looks: { burst: 256, perSecond: 50 },
  steps: { burst: 256, perSecond: 10 },
  errorNodes: { burst: 16, perSecond: 1 },
};

/** What each device adds to the looks and steps at once. */
const PER_DEVICE = 16;

/** Of one guest: all its devices share it, so that many devices are not many shares. */
export class GuestAccount implements GuestCounters {
  readonly domid: Domid;
  watchEvents = 0;
  watchEventsDelayed = 0;
  reconnects = 0;
  reconnectsDelayed = 0;
  errorNodes = 0;
  errorNodesDelayed = 0;
  /** A token for each event of the watches of its frontends. */
  readonly looks: TokenBucket;
  /** Tokens for what it makes its devices do, see {@link GuestPaces.steps}. */
  readonly steps: TokenBucket;
  /** A token for each write of an error node; devices add none. */
  readonly errorNodeWrites: TokenBucket;
  #devices = 0;

  constructor(domid: Domid, paces: GuestPaces = GUEST_PACES) {
    this.domid = domid;
    this.looks = new TokenBucket(paces.looks);
    this.steps = new TokenBucket(paces.steps);
    this.errorNodeWrites = new TokenBucket(paces.errorNodes);
  }

  /** Whether it has no device any more. */
  get isIdle(): boolean {
    return this.#devices === 0;
  }

  /** The guest has one device more. */
  addDevice(): void {
    this.#devices++;
    this.#widen(PER_DEVICE);
  }

  /** The guest has one device less. */
  removeDevice(): void {
    this.#devices--;
    this.#widen(-PER_DEVICE);
  }

  #widen(tokens: number): void {
    this.looks.widen(tokens);
    this.steps.widen(tokens);
  }
}
