import {
  type Domid,
  type ForeignMemory,
  type GrantAllocator,
  type GrantTable,
  type ProviderFeatures,
  type SharedProvider,
  unlessAborted,
  type XenProvider,
  XenSysError,
  type XenstoreTransport,
} from '@xenpv/xen-sys';
import { EmulatedEventChannels } from './handles/event-channels.js';
import { EmulatedForeignMemory } from './handles/foreign-memory.js';
import { EmulatedGrantAllocator } from './handles/grant-allocator.js';
import { EmulatedGrantTable } from './handles/grant-table.js';
import type { Machine, MachineDomain } from './machine/machine.js';
import { packageRoot } from './package-root.js';
import type { DirectoryMachine } from './processes/directory.js';
import { joinMachine } from './processes/joined-machine.js';
import type { SharedMachine } from './threads/announcements.js';
import { machineNamed } from './threads/attached-machine.js';

/** Xen as an emulated domain sees it, on this thread. */
export class EmulatedProvider implements XenProvider {
  readonly name = 'emulator';
  /** The domain that it is the provider of. */
  readonly domid: Domid;
  /** All of them; `foreignMemory` in domain 0 only. */
  readonly features: ProviderFeatures;
  readonly #machine: Machine;

  constructor(machine: Machine, domid: Domid) {
    this.domid = domid;
    this.#machine = machine;
    this.features = { mapMultiple: true, grantCopy: true, foreignMemory: domid === 0, grantAllocator: true };
  }

  /** A handle on the domain's event channels. */
  openEventChannels(): EmulatedEventChannels {
    const channels = new EmulatedEventChannels(this.#machine, this.#self('evtchn.open'));
    this.#machine.opened?.(channels);
    return channels;
  }

  /** A handle that maps pages and copies. */
  openGrantTable(): GrantTable {
    return new EmulatedGrantTable(this.#machine, this.#self('gnttab.open'));
  }

  /** A handle that grants pages of the domain. */
  openGrantAllocator(): GrantAllocator {
    return new EmulatedGrantAllocator(this.#machine, this.#self('gntalloc.open'));
  }

  /** A handle that maps any domain's frames; for a privileged domain. */
  openForeignMemory(): ForeignMemory {
    if (!this.features.foreignMemory) {
      throw new XenSysError('EACCES', 'foreignmem.open', 'only domain 0 may map the frames of others');
    }
    return new EmulatedForeignMemory(this.#machine);
  }

  /** A connection to xenstored as the domain. */
  async connectXenstore(options: { signal?: AbortSignal | undefined } = {}): Promise<XenstoreTransport> {
    options.signal?.throwIfAborted();
    this.#self('xenstore.connect');
    return this.#machine.connectXenstore(this.domid, options.signal);
  }

  share(): SharedProvider {
    return { module: new URL('dist/attach.js', packageRoot()).href, data: this.#machine.shared(this.domid) };
  }

  #self(op: string): MachineDomain {
    const domain = this.#machine.find(this.domid);
    if (domain === undefined) throw new XenSysError('ERR_NO_DEVICE', op, `there is no domain ${this.domid}`);
    return domain;
  }
}

/**
 * Opens on this thread a provider that another thread shared (`share` of a provider). Errors: ERR_NO_DEVICE when
 * the host is gone or has not answered within 10 s, EOPNOTSUPP when it has a seed and this is another thread than its.
 */
export async function attachProvider(data: unknown): Promise<EmulatedProvider> {
  const shared = data as SharedMachine | DirectoryMachine;
  if ('directory' in shared) return joinHost(shared.directory, { domid: shared.domid });
  return new EmulatedProvider(await machineNamed(shared), shared.domid);
}

/** As which domain a host is joined, and for how long that is tried. */
export interface JoinOptions {
  /** 0 by default. */
  readonly domid?: Domid | undefined;
  /** Rejects with its reason. The wait alone ends: the thread joins once, for all who ask. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Xen as domain `domid`, 0 if not given, of the host in a folder sees it, on this thread: a host that another process
 * made with {@link EmulatedHost.create}. Errors: ERR_NO_DEVICE no host answers there; ERR_NO_ADDON; the signal's reason.
 */
export async function joinHost(directory: string, options: JoinOptions = {}): Promise<EmulatedProvider> {
  const { domid = 0, signal } = options;
  return new EmulatedProvider(await unlessAborted(signal, () => joinMachine(directory)), domid);
}
