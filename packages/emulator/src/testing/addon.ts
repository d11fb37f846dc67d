import { working } from '@xenpv/test-support';
import { requireNativeAddon } from '@xenpv/xen-sys';

/** What a host in a folder needs, for `needs()`. */
export const addon = working('the addon of xen-sys', requireNativeAddon);
