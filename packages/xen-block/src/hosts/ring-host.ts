import type { BlockImage } from '@xenpv/blockdev';
import type { DataPlane, ServedRing } from '../plane/data-plane.js';
import type { RingOptions } from '../plane/rings/ring-options.js';

/** Where rings are served: a data plane on this thread or on a worker. */
export interface RingHost extends AsyncDisposable {
  /** Serves a ring. Rejects when it cannot be mapped or bound. */
  attach(options: RingOptions): Promise<ServedRing>;
  /** Whether a ring of this image can be served here. */
  accepts(image: BlockImage | undefined): boolean;
  /** Rings served now, to spread them. */
  readonly ringCount: number;
  /** Resolves when the thread has come round its event loop once more: one that is stuck never does. Rejects when it is gone. */
  ping(): Promise<void>;
  /** Ends the plane, and the thread if it has one. */
  close(): Promise<void>;
}

/** A data plane on the caller's own thread. */
export class LocalRingHost implements RingHost {
  readonly #plane: DataPlane;

  constructor(plane: DataPlane) {
    this.#plane = plane;
  }

  /** Serves a ring. Rejects when it cannot be mapped or bound. */
  async attach(options: RingOptions): Promise<ServedRing> {
    return this.#plane.attach(options);
  }

  accepts(): boolean {
    return true;
  }

  get ringCount(): number {
    return this.#plane.ringCount;
  }

  /** Resolves after a turn of the event loop. */
  ping(): Promise<void> {
    return new Promise((resolve) => setImmediate(resolve));
  }

  /** Ends the plane, and the thread if it has one. */
  close(): Promise<void> {
    return this.#plane.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Where the rings of a backend can be served. */
export interface RingHosts {
  /** On the thread that everything else is done on. */
  readonly local: RingHost;
  /** On threads of their own, each with a data plane; none when all is done on one thread. */
  readonly workers: readonly RingHost[];
}

/** The worker with the fewest rings among those that can serve the image; this thread when none can. */
export function chooseHost({ local, workers }: RingHosts, image: BlockImage | undefined): RingHost {
  const able = workers.filter((host) => host.accepts(image));
  if (able.length === 0) return local;
  return able.reduce((best, host) => (host.ringCount < best.ringCount ? host : best));
}
