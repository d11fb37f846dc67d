/**
 * A provider with faults in it: every handle that it opens is the inner provider's with one more layer, which counts the
 * calls and lets happen to some of them what a plan says. What the plan leaves alone is the inner provider's, errors too.
 */
import { XenSysError } from '../errors.js';
import type { EventChannels } from '../event-channels.js';
import type { ForeignMemory } from '../foreign-memory.js';
import type { GrantAllocator } from '../grant-allocator.js';
import type { GrantTable } from '../grant-table.js';
import type { ProviderFeatures, SharedProvider, XenProvider } from '../provider.js';
import type { XenstoreTransport } from '../xenstore-transport.js';
import { checkPlan } from './check-plan.js';
import { FaultyEventChannels } from './event-channels.js';
import { FaultCounts, Faults } from './faults.js';
import { FaultyGrantTable } from './grant-table.js';
import { FaultyForeignMemory, FaultyGrantAllocator } from './memory.js';
import { FAULT_OPERATIONS, type FaultOperation, type FaultPlan } from './plan.js';
import { FaultyTransport } from './xenstore-transport.js';

/** What a thread makes a {@link FaultyProvider} of that another thread shared. */
export interface SharedFaults {
  readonly faultyOver: SharedProvider;
  readonly plan: FaultPlan;
  readonly counts: Int32Array;
}

/**
 * A provider over `inner` that lets some operations fail, as `plan` says: for tests of what runs over it.
 * `faultyProvider(host.provider(), { map: { at: 3, error: 'EAGAIN' } })` fails the third map. `inner` stays the caller's.
 * Error: EINVAL for a plan that names no operation, call or error.
 *
 * @example
 * ```ts
 * import { faultyProvider, nativeProvider } from '@xenpv/xen-sys';
 *
 * const xen = faultyProvider(nativeProvider(), { map: { at: 3, error: 'EAGAIN' } });
 * xen.openGrantTable().close();
 * console.log(xen.unhit()); // ['map']: it was not mapped three times
 * ```
 */
export function faultyProvider(inner: XenProvider, plan: FaultPlan): FaultyProvider {
  checkPlan(plan);
  return new FaultyProvider(inner, plan, new FaultCounts());
}

/** Opens on this thread what another thread shared. */
export async function attachFaulty({ faultyOver, plan, counts }: SharedFaults): Promise<FaultyProvider> {
  const module = (await import(faultyOver.module)) as { attachProvider(data: unknown): Promise<XenProvider> };
  return new FaultyProvider(await module.attachProvider(faultyOver.data), plan, new FaultCounts(counts));
}

/** {@link faultyProvider}. */
export class FaultyProvider implements XenProvider {
  /** What happened until now, on all threads. */
  readonly counts: FaultCounts;
  readonly #inner: XenProvider;
  readonly #faults: Faults;
  readonly #eventChannels = new Set<FaultyEventChannels>();

  constructor(inner: XenProvider, plan: FaultPlan, counts: FaultCounts) {
    this.#inner = inner;
    this.counts = counts;
    this.#faults = new Faults(plan, counts);
  }

  /** `faulty emulator`. */
  get name(): string {
    return `faulty ${this.#inner.name}`;
  }

  /** As those of the provider within. */
  get features(): ProviderFeatures {
    const { mapMultiple, grantCopy, foreignMemory, grantAllocator } = this.#inner.features;
    const has = (feature: keyof ProviderFeatures, there: boolean) => there && !this.#faults.lacks(feature);
    return {
      mapMultiple: has('mapMultiple', mapMultiple),
      grantCopy: has('grantCopy', grantCopy),
      foreignMemory: has('foreignMemory', foreignMemory),
      grantAllocator: has('grantAllocator', grantAllocator),
    };
  }

  /** The planned operations that nothing has happened to: a test whose plan hit nothing has shown nothing. */
  unhit(): FaultOperation[] {
    return FAULT_OPERATIONS.filter((op) => this.#faults.plan[op] !== undefined && this.counts.hits(op) === 0);
  }

  /** Sends all events of this thread that are held; returns how many. */
  release(): number {
    let released = 0;
    for (const channels of this.#eventChannels) released += channels.release();
    return released;
  }

  /** A handle whose calls fail as planned. */
  openEventChannels(): EventChannels {
    this.#faults.check('openEventChannels', 'evtchn.open', {});
    const inner = this.#inner.openEventChannels();
    const channels = new FaultyEventChannels(inner, this.#faults, (closed) => this.#eventChannels.delete(closed));
    this.#eventChannels.add(channels);
    return channels;
  }

  /** A handle whose calls fail as planned. */
  openGrantTable(): GrantTable {
    this.#faults.check('openGrantTable', 'gnttab.open', {});
    return new FaultyGrantTable(this.#inner.openGrantTable(), this.#faults);
  }

  /** A handle whose calls fail as planned. */
  openGrantAllocator(): GrantAllocator {
    this.#refuseWithout('grantAllocator', 'gntalloc.open');
    this.#faults.check('openGrantAllocator', 'gntalloc.open', {});
    return new FaultyGrantAllocator(this.#inner.openGrantAllocator(), this.#faults);
  }

  /** A handle whose calls fail as planned. */
  openForeignMemory(): ForeignMemory {
    this.#refuseWithout('foreignMemory', 'foreignmem.open');
    this.#faults.check('openForeignMemory', 'foreignmem.open', {});
    return new FaultyForeignMemory(this.#inner.openForeignMemory(), this.#faults);
  }

  /** A connection whose requests fail as planned. */
  async connectXenstore(options: { signal?: AbortSignal | undefined } = {}): Promise<XenstoreTransport> {
    this.#faults.check('connectXenstore', 'xenstore.connect', {});
    return new FaultyTransport(await this.#inner.connectXenstore(options), this.#faults);
  }

  /** The threads have the same plan and counts. Error: EINVAL for a plan with functions, which cannot be sent. */
  share(): SharedProvider {
    const { plan } = this.#faults;
    for (const operation of FAULT_OPERATIONS) {
      if (typeof plan[operation] !== 'function') continue;
      const message = `the plan of ${operation} is a function, which other threads cannot have; write it as { at, … }`;
      throw new XenSysError('EINVAL', 'faultyProvider.share', message);
    }
    const data: SharedFaults = { faultyOver: this.#inner.share(), plan, counts: this.counts.words };
    return { module: '@xenpv/xen-sys', data };
  }

  #refuseWithout(feature: keyof ProviderFeatures, op: string): void {
    if (!this.#faults.lacks(feature)) return;
    throw new XenSysError('ERR_NO_DEVICE', op, `there is no ${feature}, as the plan of faults says`);
  }
}
