import { type NativeProviderOptions, nativeProvider } from '../native/provider.js';
import type { XenProvider } from '../provider.js';
import { attachFaulty, type SharedFaults } from './provider.js';

/** The provider of a {@link SharedProvider} of this package: what a worker thread calls with its `data`. */
export async function attachProvider(data: unknown): Promise<XenProvider> {
  const shared = data as NativeProviderOptions | SharedFaults;
  return 'faultyOver' in shared ? attachFaulty(shared) : nativeProvider(shared);
}
