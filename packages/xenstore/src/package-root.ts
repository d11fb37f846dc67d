import { packageFolder } from '@xenpv/xen-sys';

/** The package's folder. */
export const packageRoot = packageFolder('@xenpv/xenstore', import.meta.url);
