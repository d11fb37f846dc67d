import type { Scene } from './scene.js';

/** One thing that a client can see of a server. */
export interface ConformanceCase {
  /** What is looked at, unlike that of any other case. */
  readonly name: string;
  /** Needs a domain other than 0. */
  readonly guests?: true | undefined;
  /** Does something and tells what it saw. */
  readonly run: (scene: Scene) => Promise<unknown>;
  /** What is seen of the C daemon of Xen 4.17, which every other server should equal, but for known differences. */
  readonly expected: unknown;
}
