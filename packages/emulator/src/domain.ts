import type { Domid, SharedProvider } from '@xenpv/xen-sys';
import { ToolstackError } from './errors.js';
import type { GuestConsole } from './guest-console.js';
import type { DomainUsage, MachineDomain } from './machine/machine.js';
import type { EmulatedProvider } from './provider.js';

/** What a domain is made of. */
export interface DomainConfig {
  /** What its `name` nodes in xenstore say. It need not be unique. */
  readonly name: string;
  /** Size of its RAM, of which it can grant pages; 64 by default. */
  readonly memoryMiB?: number | undefined;
  /** The next free one by default. */
  readonly domid?: Domid | undefined;
  /** Whether it may serve devices to others (`driver_domain=1` in xl.cfg). */
  readonly driverDomain?: boolean | undefined;
  /** Whether it has a console, see {@link EmulatedDomain.console}; false by default. */
  readonly console?: boolean | undefined;
}

/** How making or ending a domain ends early. */
export interface DomainCallOptions {
  /** Rejects with its reason. */
  readonly signal?: AbortSignal | undefined;
}

/** Why a domain is not running any more: SHUTDOWN_* of Xen's sched.h. */
export type ShutdownReason = 'poweroff' | 'reboot' | 'suspend' | 'crash' | 'watchdog';

/** All of them. */
const SHUTDOWN_REASONS: readonly ShutdownReason[] = ['poweroff', 'reboot', 'suspend', 'crash', 'watchdog'];

/** What a domain asks of its host. */
interface DomainActions {
  usage(): DomainUsage;
  destroy(options?: DomainCallOptions): Promise<void>;
  /** It has shut down. */
  shutDown(): void;
}

/** A domain of an emulated host. */
export class EmulatedDomain implements AsyncDisposable {
  /** 1 to 0x7fef; free for another domain once this one is destroyed. */
  readonly domid: Domid;
  /** As in its {@link DomainConfig}, whatever is in xenstore by now. */
  readonly name: string;
  /** Xen as this domain sees it, on the host's thread. */
  readonly provider: EmulatedProvider;
  /** The guest's end of its console, if it was made with one. */
  readonly console: GuestConsole | undefined;
  readonly #machineDomain: MachineDomain;
  readonly #actions: DomainActions;
  #shutdownReason: ShutdownReason | undefined;

  constructor(
    name: string,
    provider: EmulatedProvider,
    machineDomain: MachineDomain,
    actions: DomainActions,
    console?: GuestConsole,
  ) {
    this.domid = provider.domid;
    this.name = name;
    this.provider = provider;
    this.#machineDomain = machineDomain;
    this.#actions = actions;
    this.console = console;
  }

  /** The domain's memory, or a little more. Pages are handed out by its {@link EmulatedProvider.openGrantAllocator}. */
  get ram(): ArrayBufferLike {
    return this.#machineDomain.memory.ram;
  }

  /** False once it was destroyed, whoever did it. */
  get alive(): boolean {
    return this.#machineDomain.memory.alive;
  }

  /** Why it shut down; undefined while it runs. */
  get shutdownReason(): ShutdownReason | undefined {
    return this.#shutdownReason;
  }

  /**
   * It shuts down, or crashes, as a guest does by itself: it stays, with all that it has, until it is destroyed, and
   * `@releaseDomain` tells toolstacks and backends to look. What runs as the guest is not stopped. Only the first
   * reason counts. Error: {@link ToolstackError} ERR_COMMAND for a word that is no reason.
   */
  shutdown(reason: ShutdownReason = 'poweroff'): void {
    if (!SHUTDOWN_REASONS.includes(reason)) {
      const message = `${reason} is no reason to shut down; there are ${SHUTDOWN_REASONS.join(', ')}`;
      throw new ToolstackError('ERR_COMMAND', 'shutdown', message);
    }
    if (this.#shutdownReason !== undefined || !this.alive) return;
    this.#shutdownReason = reason;
    this.#actions.shutDown();
  }

  /** For a worker thread that is to run as this domain. */
  share(): SharedProvider {
    return this.provider.share();
  }

  /** What it holds now. A guest that closed everything holds nothing. */
  usage(): DomainUsage {
    return this.#actions.usage();
  }

  /** {@link EmulatedHost.destroyDomain}. */
  destroy(options?: DomainCallOptions): Promise<void> {
    return this.#actions.destroy(options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.destroy();
  }
}
