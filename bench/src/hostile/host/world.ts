import type { EmulatedHost } from '@xenpv/emulator';
import type { XenBlockBackend } from '@xenpv/xen-block';
import type { GuestPlan, World } from '../guest/plan.js';

const MEMORY_MIB = 24;
const LOOK_MS = 1;
const VDEV = 'xvda';

/** The name of a guest's disk. */
export function targetOf({ domid }: Pick<GuestPlan, 'domid'>): string {
  return `disk-${domid}`;
}

export interface HostWorldOptions {
  readonly xen: EmulatedHost;
  /** The one that serves now. */
  readonly backend: () => XenBlockBackend;
  readonly plan: GuestPlan;
  /** Nobody has the disk any more. */
  readonly gone: () => Promise<void>;
}

/** The host's side of a guest's life: its domain, which is made anew under the same number, and its disk. */
export class HostWorld implements World {
  readonly #xen: EmulatedHost;
  readonly #backend: () => XenBlockBackend;
  readonly #plan: GuestPlan;
  readonly #diskIsGone: () => Promise<void>;

  constructor(options: HostWorldOptions) {
    this.#xen = options.xen;
    this.#backend = options.backend;
    this.#plan = options.plan;
    this.#diskIsGone = options.gone;
  }

  async attach(): Promise<void> {
    await this.makeDomain();
    await this.#xen.toolstack.attachDisk(this.#plan.domid, {
      vdev: VDEV,
      target: targetOf(this.#plan),
      readOnly: this.#plan.readOnly,
    });
  }

  async makeDomain(): Promise<void> {
    const { domid, name } = this.#plan;
    if (this.#xen.domains.some((domain) => domain.domid === domid)) return;
    await this.#xen.createDomain({ name, domid, memoryMiB: MEMORY_MIB });
  }

  async detach(): Promise<void> {
    await this.#xen.toolstack.detachDisk(this.#plan.domid, VDEV);
    await this.#gone();
  }

  async destroy(): Promise<void> {
    await this.#xen.destroyDomain(this.#plan.domid);
    await this.#gone();
  }

  /** The next disk must not meet requests of this one. */
  async #gone(): Promise<void> {
    const { domid, patienceSeconds, name } = this.#plan;
    const until = performance.now() + patienceSeconds * 1000;
    while ([...this.#backend().devices].some(({ address }) => address.domid === domid)) {
      if (performance.now() > until) throw new Error(`the disk of ${name} is not let go of`);
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
    await this.#diskIsGone();
  }
}
