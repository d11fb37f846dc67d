import { packageFolder } from '@xenpv/xen-sys';

/** The package's folder. */
export const packageRoot = packageFolder('@xenpv/emulator', import.meta.url);
