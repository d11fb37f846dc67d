// The built modules lie in dist/, the sources in src/: either way the package is one folder up.
/** The package's folder. */
export const packageRoot = new URL('..', import.meta.url);
