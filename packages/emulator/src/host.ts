/**
 * The host: what the parts of the emulator are made into. In come domain configurations. A domain is made from below:
 * its memory in the machine, its nodes in xenstore, its introduction to xenstored, so that whoever hears of it finds it
 * whole. It ends in the order of xl: its disks, its memory and event channels, its nodes, and then xenstored announces
 * the end. Nothing here keeps the process alive, and no end is carried out twice.
 */
import { randomUUID } from 'node:crypto';
import { DOMID_SELF, type Domid, unlessAborted, XEN_PAGE_SIZE, XenSysError } from '@xenpv/xen-sys';
import { XenstoreClient } from '@xenpv/xenstore';
import { EmulatedXenstored, type EmulatedXenstoredOptions } from '@xenpv/xenstored';
import { type ControlledHost, ControlServer } from './control/server.js';
import { type DomainCallOptions, type DomainConfig, EmulatedDomain } from './domain.js';
import { ToolstackError } from './errors.js';
import { HostFaults } from './faults/host-faults.js';
import { GuestConsole, removeConsoleBackend } from './guest-console.js';
import type { MemoryMisuse } from './machine/free-frames.js';
import type { DomainUsage, MachineDomain, OwnMachine } from './machine/machine.js';
import type { DomainSize } from './machine/memory.js';
import { ProcessHost } from './processes/process-host.js';
import { EmulatedProvider } from './provider.js';
import { orderDomain, orderMachine } from './seed/seeded-machine.js';
import { SeededOrder } from './seed/seeded-order.js';
import { misuseError, StrictMemory } from './strict-memory.js';
import { HostMachine } from './threads/host-machine.js';
import { removeDomainNodes, writeDomainNodes } from './toolstack/domain-nodes.js';
import { Toolstack } from './toolstack/toolstack.js';

/** RAM of a domain unless told otherwise. Untouched pages cost nothing. */
const DEFAULT_MEMORY_MIB = 64;

/** As many references as Xen gives by default (64 frames of 512), if there are pages for them. */
const MAX_GRANTS = 32 * 1024;

/** Event channels of a domain that serves others, and of one that does not. */
const SERVER = { ports: 32 * 1024, handles: 8 * 1024 };
const GUEST = { ports: 1024, handles: 128 };

const NOTHING: DomainUsage = { grants: 0, mapped: 0, frames: 0, ports: 0, eventHandles: 0 };

/** What an {@link EmulatedHost} is made of. */
export interface EmulatedHostOptions {
  /** RAM of domain 0, of which it can grant pages; 64 MiB by default. */
  readonly memoryMiB?: number | undefined;
  /** How long the toolstack waits for backends; 10 s by default, as xl. */
  readonly toolstackTimeoutMs?: number | undefined;
  /** Its version, its quotas and what else a test wants of it; which domains exist is the host's to say. */
  readonly xenstored?: Omit<EmulatedXenstoredOptions, 'domainExists'> | undefined;
  /**
   * Misuse of granted memory is an error, as it is on a real Xen: a write through a mapping that is to be read only
   * throws at the latest when that is unmapped; a write after the unmapping (seen once the granter has ended the grant) or
   * release, or past the end of a page, makes {@link EmulatedHost.close} throw, and {@link EmulatedHost.misuses} tell. It costs time and memory; false by
   * default.
   */
  readonly strict?: boolean | undefined;
  /**
   * Has events, wake-ups and messages of xenstore come in an order that is drawn by lot from this whole number: the
   * same number, the same order, as long as the program itself waits for nothing else, such as timers, files and
   * sockets. With {@link findFailingSeed} a test looks for orders in which a program fails. It is for one thread, and
   * not for a folder.
   */
  readonly seed?: number | undefined;
  /**
   * The folder through which other processes see this host, made if need be; none by default. It should be on a tmpfs,
   * such as below /run. The memory of all domains lies there as files. {@link joinHost} and {@link RemoteHost} are the
   * ways in. When a process that has joined ends, its event channels are closed and its pages given back, as a kernel
   * does it.
   */
  readonly directory?: string | undefined;
}

/**
 * A Xen host in this process, or shared with others by a folder: domain 0, further domains, their grant tables and
 * event channels in shared memory, xenstored and a small toolstack. It keeps nothing alive, a process that only has a
 * host ends; but a host that others may join by a folder does, until it is closed.
 *
 * @example
 * ```ts
 * import { EmulatedHost } from '@xenpv/emulator';
 *
 * const host = await EmulatedHost.create();
 * const guest = await host.createDomain({ name: 'guest' });
 * console.log(guest.domid, guest.usage());
 * await host.close();
 * ```
 */
export class EmulatedHost implements AsyncDisposable, ControlledHost {
  /** Its `listen` lets other programs in. To introduce and release domains, and to close it, is the host's part. */
  readonly xenstored: EmulatedXenstored;
  /** Does as domain 0 what xl does with devices. */
  readonly toolstack: Toolstack;
  /** What can be made to go wrong here. */
  readonly faults: HostFaults;
  readonly #machine: OwnMachine;
  readonly #strict: StrictMemory | undefined;
  readonly #order: SeededOrder | undefined;
  readonly #store: XenstoreClient;
  readonly #domains = new Map<number, EmulatedDomain>();
  readonly #destroying = new Map<number, Promise<void>>();
  #control: ControlServer | undefined;
  #nextDomid = 1;
  #closing: Promise<void> | undefined;

  private constructor(
    machine: OwnMachine,
    xenstored: EmulatedXenstored,
    options: EmulatedHostOptions,
    order: SeededOrder | undefined,
  ) {
    this.#machine = machine;
    this.#order = order;
    if (order !== undefined) orderMachine(order, machine);
    this.xenstored = xenstored;
    this.#strict = options.strict === true ? new StrictMemory(machine) : undefined;
    this.#createMemory(0, sizeOf(options.memoryMiB ?? DEFAULT_MEMORY_MIB, SERVER));
    const transport = this.xenstored.connect(0);
    this.#store = XenstoreClient.open(transport);
    this.faults = new HostFaults(machine, xenstored, transport);
    this.toolstack = new Toolstack(this.#store, options.toolstackTimeoutMs);
  }

  /**
   * A host with domain 0 alone. Errors: EINVAL a seed that is no whole number, or with a folder; with a folder only,
   * EADDRINUSE another host has it, ENAMETOOLONG its path is too long for sockets, ERR_NO_ADDON, or what the system
   * says.
   */
  static async create(options: EmulatedHostOptions = {}): Promise<EmulatedHost> {
    let machine: OwnMachine | undefined;
    const domainExists = (domid: Domid) => machine?.find(domid) !== undefined;
    const { directory } = options;
    const order = orderOf(options);
    const schedule = order && ((what: string, run: () => void) => order.post(what, run));
    const xenstored = new EmulatedXenstored({ schedule, ...options.xenstored, domainExists });
    const connect = (domid: Domid) => xenstored.connect(domid);
    machine = directory === undefined ? new HostMachine(connect) : await ProcessHost.open(directory, connect);
    const host = new EmulatedHost(machine, xenstored, options, order);
    await host.#listen(0);
    if (machine instanceof ProcessHost) {
      host.#control = await ControlServer.listen(machine.directory.controlSocket, host);
    }
    await host.#store.transaction(async (tx) => {
      await tx.write('/local/domain/0/name', 'Domain-0');
      await tx.write('/local/domain/0/domid', 0);
    });
    return host;
  }

  /** Xen as domain `domid` sees it, on this thread. */
  provider(domid = 0): EmulatedProvider {
    return new EmulatedProvider(this.#machine, domid);
  }

  /** The domains but domain 0. */
  get domains(): readonly EmulatedDomain[] {
    return [...this.#domains.values()];
  }

  /**
   * Makes a domain and its xenstore nodes, as `xl create` does, and introduces it to xenstored.
   * Errors: {@link ToolstackError} ERR_EXISTS for a domid in use; the signal's reason. There is no domain then, though
   * nodes of one may be in xenstore, until the next of its domid.
   */
  async createDomain(config: DomainConfig, { signal }: DomainCallOptions = {}): Promise<EmulatedDomain> {
    signal?.throwIfAborted();
    const domid = config.domid ?? this.#freeDomid();
    if (domid < 1 || domid >= DOMID_SELF || this.#machine.find(domid) !== undefined) {
      throw new ToolstackError('ERR_EXISTS', 'createDomain', `domid ${domid} is not free`);
    }
    const memoryMiB = config.memoryMiB ?? DEFAULT_MEMORY_MIB;
    const driverDomain = config.driverDomain ?? false;
    const machineDomain = this.#createMemory(domid, sizeOf(memoryMiB, driverDomain ? SERVER : GUEST));
    const description = { domid, name: config.name, uuid: randomUUID(), memoryMiB, driverDomain };
    const provider = this.provider(domid);
    const console = config.console === true ? new GuestConsole(provider) : undefined;
    try {
      await this.#store.transaction(
        async (tx) => {
          await writeDomainNodes(tx, description);
          await console?.writeNodes(tx, domid);
        },
        { signal },
      );
      await this.#listen(domid);
    } catch (error) {
      console?.close();
      this.#machine.destroy(domid);
      throw error;
    }
    this.xenstored.introduceDomain(domid);
    const actions = {
      usage: () => this.#machine.usage(machineDomain),
      destroy: (options?: DomainCallOptions) => this.destroyDomain(domid, options),
      shutDown: () => this.xenstored.domainShutDown(domid),
    };
    const domain = new EmulatedDomain(config.name, provider, machineDomain, actions, console);
    this.#domains.set(domid, domain);
    return domain;
  }

  /**
   * Ends a domain, as `xl destroy` does: its devices of every kind are detached by force, its event channels and
   * mappings end, its nodes go. Pages that others still have mapped stay with them. Harmless when repeated. `signal` ends
   * the wait alone, for backends that do not let go of its devices: half a domain would be left, so it ends all the same.
   */
  destroyDomain(domid: Domid, { signal }: DomainCallOptions = {}): Promise<void> {
    return unlessAborted(signal, () => this.#destroyOnce(domid));
  }

  #destroyOnce(domid: Domid): Promise<void> {
    if (!this.#domains.has(domid)) return Promise.resolve();
    let promise = this.#destroying.get(domid);
    if (promise === undefined) {
      promise = this.#destroy(domid).finally(() => this.#destroying.delete(domid));
      this.#destroying.set(domid, promise);
    }
    return promise;
  }

  /** What a domain holds now; all zero for one that is not there. */
  usage(domid: Domid): DomainUsage {
    const domain = this.#machine.find(domid);
    return domain === undefined ? NOTHING : this.#machine.usage(domain);
  }

  /** On a host with a seed: what happened in which order, in words. */
  get trace(): readonly string[] {
    return this.#order?.trace ?? [];
  }

  /** On a strict host: where memory was written to that nobody may use, until now. Elsewhere nothing is found. */
  misuses(): readonly MemoryMisuse[] {
    return this.#strict?.misuses() ?? [];
  }

  /**
   * Ends the domains without waiting for their backends, then xenstored. Harmless when repeated. Error, when all has
   * ended, on a strict host only: EFAULT memory was misused.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Where processes that joined speak to xenstored as domain `domid`. */
  async #listen(domid: Domid): Promise<void> {
    if (this.#machine instanceof ProcessHost) {
      await this.xenstored.listen(this.#machine.directory.xenstoredSocket(domid), domid);
    }
  }

  async #destroy(domid: Domid): Promise<void> {
    await this.toolstack.detachAll(domid);
    this.#strict?.remember(domid);
    this.#domains.get(domid)?.console?.close();
    this.#machine.destroy(domid);
    await this.#store.transaction(async (tx) => {
      await removeDomainNodes(tx, domid);
      await removeConsoleBackend(tx, domid);
    });
    this.xenstored.releaseDomain(domid);
    this.#domains.delete(domid);
  }

  async #close(): Promise<void> {
    const misuses = this.misuses();
    this.faults.end();
    await this.#control?.close();
    this.#machine.close();
    this.#domains.clear();
    await this.#store.close();
    await this.xenstored.close();
    if (misuses.length > 0) throw misuseError(misuses);
  }

  #createMemory(domid: Domid, size: DomainSize): MachineDomain {
    const domain = this.#machine.create(domid, size);
    if (this.#strict !== undefined) domain.memory.beStrict();
    if (this.#order !== undefined) orderDomain(this.#order, domain);
    return domain;
  }

  #freeDomid(): number {
    while (this.#machine.find(this.#nextDomid) !== undefined)
      this.#nextDomid = (this.#nextDomid % (DOMID_SELF - 1)) + 1;
    const domid = this.#nextDomid;
    this.#nextDomid = (domid % (DOMID_SELF - 1)) + 1;
    return domid;
  }
}

function orderOf({ seed, directory }: EmulatedHostOptions): SeededOrder | undefined {
  if (seed === undefined) return undefined;
  if (!Number.isSafeInteger(seed)) throw new XenSysError('EINVAL', 'host.create', `seed ${seed} is no whole number`);
  if (directory !== undefined) {
    const message = `a host with a seed has one thread, and cannot be joined; leave out the folder ${directory} or the seed`;
    throw new XenSysError('EINVAL', 'host.create', message);
  }
  return new SeededOrder(seed);
}

function sizeOf(memoryMiB: number, channels: Pick<DomainSize, 'ports' | 'handles'>): DomainSize {
  const pages = Math.max(1, Math.ceil((memoryMiB * 1024 * 1024) / XEN_PAGE_SIZE));
  return { pages, grants: Math.min(MAX_GRANTS, pages + 64), ...channels };
}
