import { packageFolder } from '@xenpv/xen-sys';

/** The package's folder. */
export const packageRoot = (): URL => packageFolder('@xenpv/blockdev', import.meta.url);

/** URL of the module that exports `attachImage`. */
export const attachModule = (): string => new URL('dist/attach.js', packageRoot()).href;
