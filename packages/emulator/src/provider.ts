import {
  type Domid,
  type ForeignMemory,
  type GrantAllocator,
  type GrantTable,
  type ProviderFeatures,
  type SharedProvider,
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
