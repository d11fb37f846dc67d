import type { RingOptions } from './block-ring.js';
import type { DataPlane, ServedRing } from './data-plane.js';

/** Where rings are served: a data plane on this thread or on a worker. */
export interface RingHost extends AsyncDisposable {
  attach(options: RingOptions): Promise<ServedRing>;
  /** Rings served now, to spread them. */
  readonly ringCount: number;
  close(): Promise<void>;
}

/** A data plane on the caller's own thread. */
export class LocalRingHost implements RingHost {
  readonly #plane: DataPlane;

  constructor(plane: DataPlane) {
    this.#plane = plane;
  }

  async attach(options: RingOptions): Promise<ServedRing> {
    return this.#plane.attach(options);
  }

  get ringCount(): number {
    return this.#plane.ringCount;
  }

  close(): Promise<void> {
    return this.#plane.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** The host with the fewest rings. */
export function leastLoaded(hosts: readonly RingHost[]): RingHost {
  return hosts.reduce((best, host) => (host.ringCount < best.ringCount ? host : best));
}
