import { loadAddon } from '../addon/addon.js';
import { DEVICE_DIRECTORY } from '../addon/device-file.js';
import type { EventChannels } from '../event-channels.js';
import type { ForeignMemory } from '../foreign-memory.js';
import type { GrantAllocator } from '../grant-allocator.js';
import type { GrantTable } from '../grant-table.js';
import type { ProviderFeatures, SharedProvider, XenProvider } from '../provider.js';
import { connectXenstore, xenstorePaths } from '../xenstore/connection.js';
import type { XenstoreTransport } from '../xenstore-transport.js';
import { NativeEventChannels } from './event-channels.js';
import { FOREIGN_MEMORY_LIBRARY, NativeForeignMemory } from './foreign-memory.js';
import { NativeGrantAllocator } from './grant-allocator.js';
import { NativeGrantTable } from './grant-table.js';

/** Structured-cloneable. */
export interface NativeProviderOptions {
  /** Where Xen's devices are; /dev/xen if not given. */
  readonly deviceDirectory?: string | undefined;
  /** The only socket or device to look for xenstore at; what the environment and the machine say if not given. */
  readonly xenstorePath?: string | undefined;
  /** Name or path of libxenforeignmemory; libxenforeignmemory.so.1 if not given. */
  readonly foreignMemoryLibrary?: string | undefined;
}

/**
 * The Xen that this machine runs under, through the kernel's devices. Nothing is loaded or opened before it is asked
 * for; the errors then are ERR_NO_ADDON, ERR_NO_DEVICE, ERR_NO_LIBRARY, ERR_NO_XENSTORE or an errno's name, with a
 * message that says what to install. xenstore over a socket does not need the addon.
 */
export function nativeProvider(options: NativeProviderOptions = {}): XenProvider {
  return new NativeProvider(options);
}

/**
 * Loads the addon that {@link nativeProvider} needs for all but a xenstore socket, so that it is missing now rather
 * than later. Error: ERR_NO_ADDON.
 */
export function requireNativeAddon(): void {
  loadAddon();
}

class NativeProvider implements XenProvider {
  readonly name = 'native';
  readonly features: ProviderFeatures;
  readonly #options: NativeProviderOptions;
  readonly #directory: string;

  constructor(options: NativeProviderOptions) {
    this.#options = options;
    this.#directory = options.deviceDirectory ?? DEVICE_DIRECTORY;
    this.features = new NativeFeatures(this, this.#directory);
  }

  openEventChannels(): EventChannels {
    return new NativeEventChannels(this.#directory);
  }

  openGrantTable(): GrantTable {
    return new NativeGrantTable(this.#directory);
  }

  openGrantAllocator(): GrantAllocator {
    return new NativeGrantAllocator(this.#directory);
  }

  openForeignMemory(): ForeignMemory {
    return new NativeForeignMemory(this.#directory, this.#options.foreignMemoryLibrary ?? FOREIGN_MEMORY_LIBRARY);
  }

  connectXenstore(options: { signal?: AbortSignal | undefined } = {}): Promise<XenstoreTransport> {
    const { xenstorePath } = this.#options;
    const paths = xenstorePath === undefined ? xenstorePaths(this.#directory) : [xenstorePath];
    return connectXenstore(paths, options.signal);
  }

  share(): SharedProvider {
    return { module: '@xenpv/xen-sys', data: { ...this.#options } };
  }
}

/** Each is found out when it is first asked for, by trying. */
class NativeFeatures implements ProviderFeatures {
  readonly mapMultiple = true;
  readonly #provider: XenProvider;
  readonly #directory: string;
  #grantCopy: boolean | undefined;
  #foreignMemory: boolean | undefined;
  #grantAllocator: boolean | undefined;

  constructor(provider: XenProvider, directory: string) {
    this.#provider = provider;
    this.#directory = directory;
  }

  get grantCopy(): boolean {
    this.#grantCopy ??= succeeds(() => NativeGrantTable.canCopy(this.#directory));
    return this.#grantCopy;
  }

  get foreignMemory(): boolean {
    this.#foreignMemory ??= succeeds(() => closed(this.#provider.openForeignMemory()));
    return this.#foreignMemory;
  }

  get grantAllocator(): boolean {
    this.#grantAllocator ??= succeeds(() => closed(this.#provider.openGrantAllocator()));
    return this.#grantAllocator;
  }
}

function closed(handle: { close(): void }): true {
  handle.close();
  return true;
}

function succeeds(attempt: () => boolean): boolean {
  try {
    return attempt();
  } catch {
    return false;
  }
}
