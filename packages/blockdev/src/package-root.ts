import { packageFolder } from '@xenpv/xen-sys';

/** The package's folder. */
export const packageRoot = packageFolder('@xenpv/blockdev', import.meta.url);

/** URL of the module that exports `attachImage`. */
export const attachModule = new URL('dist/attach.js', packageRoot).href;
