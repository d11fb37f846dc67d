import type { SharedProvider } from '@xenpv/xen-sys';
import type { DomainUsage, MachineDomain } from './machine/machine.js';
import type { EmulatedProvider } from './provider.js';

/** What a domain is made of. */
export interface DomainConfig {
  readonly name: string;
  /** 64 by default. */
  readonly memoryMiB?: number | undefined;
  /** The next free one by default. */
  readonly domid?: number | undefined;
  /** Whether it may serve devices to others (`driver_domain=1` in xl.cfg). */
  readonly driverDomain?: boolean | undefined;
}

/** A domain of an an emulated host. */
export class EmulatedDomain implements AsyncDisposable {
  readonly domid: number;
  readonly name: string;
  /** Xen as this domain sees it, on the host's thread. */
  readonly provider: EmulatedProvider;
  readonly #machineDomain: MachineDomain;
  readonly #usage: () => DomainUsage;
  readonly #destroy: () => Promise<void>;

  constructor(
    name: string,
    provider: EmulatedProvider,
    machineDomain: MachineDomain,
    actions: { usage: () => DomainUsage; destroy: () => Promise<void> },
  ) {
    this.domid = provider.domid;
    this.name = name;
    this.provider = provider;
    this.#machineDomain = machineDomain;
    this.#usage = actions.usage;
    this.#destroy = actions.destroy;
  }

  /** The domain's memory, or a little more. Pages are handed out by its {@link EmulatedProvider.openGrantAllocator}. */
  get ram(): ArrayBufferLike {
    return this.#machineDomain.memory.ram;
  }

  /** False once it was destroyed, whoever did it. */
  get alive(): boolean {
    return this.#machineDomain.memory.alive;
  }

  /** For a worker thread that is to run as this domain. */
  share(): SharedProvider {
    return this.provider.share();
  }

  /** What it holds now. A guest that closed everything holds nothing. */
  usage(): DomainUsage {
    return this.#usage();
  }

  /** {@link EmulatedHost.destroyDomain}. */
  destroy(): Promise<void> {
    return this.#destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.destroy();
  }
}
