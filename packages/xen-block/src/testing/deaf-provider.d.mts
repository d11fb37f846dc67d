import type { XenProvider } from '@xenpv/xen-sys';

/** `deaf`: events are lost as long as its first entry is not 0. */
export function deafProvider(provider: XenProvider, deaf: Int32Array): XenProvider;
