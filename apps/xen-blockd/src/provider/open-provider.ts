import { forbidCoreDumps, nativeProvider, requireNativeAddon, type XenProvider } from '@xenpv/xen-sys';
import { xenUnavailable } from '../errors.js';
import { withEmulator } from './emulator.js';

/** This machine's own Xen, whose guests' memory no core dump is to have. Error: ERR_XEN when the addon is not there. */
function openNativeProvider(): XenProvider {
  try {
    requireNativeAddon();
    forbidCoreDumps();
    return nativeProvider();
  } catch (error) {
    throw xenUnavailable('load addon', error);
  }
}

/** This machine's own Xen, or domain 0 of the emulated host in a folder. Error: ERR_XEN what is there cannot be used. */
export async function openProvider(emulator: string | undefined): Promise<XenProvider> {
  if (emulator === undefined) return openNativeProvider();
  const { joinEmulatedHost } = await withEmulator(() => import('./emulated-host.js'));
  return joinEmulatedHost(emulator);
}
