import type { EventChannels } from './event-channels.js';
import type { ForeignMemory } from './foreign-memory.js';
import type { GrantAllocator } from './grant-allocator.js';
import type { GrantTable } from './grant-table.js';
import type { XenstoreTransport } from './xenstore-transport.js';

/** What a provider can do, asked before it is tried. */
export interface ProviderFeatures {
  /** Several references in one {@link GrantTable.map} call (QEMU's XEN_GNTTAB_FEATURE_MAP_MULTIPLE). */
  readonly mapMultiple: boolean;
  /** {@link GrantTable.copy} works; without it map and copy by hand. */
  readonly grantCopy: boolean;
  /** {@link XenProvider.openForeignMemory} works. */
  readonly foreignMemory: boolean;
  /** {@link XenProvider.openGrantAllocator} works, so that frontends can run here. */
  readonly grantAllocator: boolean;
}

/**
 * How a worker thread opens the provider of the thread that started it: `import(module)` and call
 * `attachProvider(data)`.
 */
export interface SharedProvider {
  /** A module specifier or URL whose `attachProvider(data)` gives the {@link XenProvider}. */
  readonly module: string;
  /** Structured-cloneable. */
  readonly data: unknown;
}

/**
 * The redirectable operations: all that the upper layers ask of Xen. `native` is the machine's own; the emulator
 * gives one per emulated domain; a test may give its own. All of them pass the suite in ./testing.
 *
 * What comes in: domain numbers, grant references and ports, as other domains say them. What must hold: a handle is
 * used by the thread that opened it. What never happens: that operations of the hot path (notify, pending, unmask,
 * copy) throw or allocate, they return a negative errno; that closing a handle leaves something mapped or bound.
 */
export interface XenProvider {
  /** `native`, `emulator`. */
  readonly name: string;
  /** What works here. The native provider finds each out by trying when it is first read, and keeps the answer. */
  readonly features: ProviderFeatures;
  /** Opens a handle of its own. Throws {@link XenSysError}. */
  openEventChannels(): EventChannels;
  /** Opens a handle of its own. Throws {@link XenSysError}. */
  openGrantTable(): GrantTable;
  /** Opens a handle of its own. Throws {@link XenSysError}. */
  openGrantAllocator(): GrantAllocator;
  /** Opens a handle of its own. Throws {@link XenSysError}. */
  openForeignMemory(): ForeignMemory;
  /** A connection to xenstored, not started yet. Rejects with {@link XenSysError}, or with the reason of the signal. */
  connectXenstore(options?: { signal?: AbortSignal | undefined }): Promise<XenstoreTransport>;
  /** For worker threads. */
  share(): SharedProvider;
}
