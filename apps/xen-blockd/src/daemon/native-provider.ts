import { forbidCoreDumps, nativeProvider, requireNativeAddon, type XenProvider } from '@xenpv/xen-sys';
import { xenUnavailable } from '../errors.js';

/** This machine's own Xen, whose guests' memory no core dump is to have. Error: ERR_XEN when the addon is not there. */
export function openNativeProvider(): XenProvider {
  try {
    requireNativeAddon();
    forbidCoreDumps();
    return nativeProvider();
  } catch (error) {
    throw xenUnavailable('load addon', error);
  }
}

/** Domain 0 of the emulated host in a folder. Error: ERR_XEN no host is there. */
export async function joinEmulatedHost(directory: string): Promise<XenProvider> {
  // The daemon itself needs no emulator.
  const { joinHost } = await import('@xenpv/emulator');
  try {
    return await joinHost(directory);
  } catch (error) {
    throw xenUnavailable('join host', error);
  }
}
