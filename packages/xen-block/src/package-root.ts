import { packageFolder } from '@xenpv/xen-sys';

/** The package's folder. */
export const packageRoot = (): URL => packageFolder('@xenpv/xen-block', import.meta.url);
