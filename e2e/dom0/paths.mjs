/** Where dom0 and driver domains find things on the run's disk. */
export const BLOCKD = '/lab/repo/apps/xen-blockd';
export const MAIN = `${BLOCKD}/dist/main.js`;
/** Kernels and initrds of the domains. */
export const BOOT = '/lab/boot';
/** Programs that run a package's suite over this machine's own devices. */
export const SUITES = '/lab/e2e/tests/suites';
/** An example: a PV console backend. */
export const CONSOLE_BACKEND = '/lab/repo/examples/dist/console-backend.js';
