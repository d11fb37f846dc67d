import { requireNativeAddon } from '@xenpv/xen-sys';

/** What a host in a folder needs, for `needs()`. */
export const addon = {
  name: 'the addon of xen-sys',
  met: (): boolean => {
    try {
      requireNativeAddon();
      return true;
    } catch {
      return false;
    }
  },
};
