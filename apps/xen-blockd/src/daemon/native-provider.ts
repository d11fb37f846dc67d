import { nativeProvider, requireNativeAddon, type XenProvider } from '@xenpv/xen-sys';
import { xenUnavailable } from '../errors.js';

/** This machine's own Xen. Error: ERR_XEN when the addon is not there. */
export function openNativeProvider(): XenProvider {
  try {
    requireNativeAddon();
    return nativeProvider();
  } catch (error) {
    throw xenUnavailable('load addon', error);
  }
}
