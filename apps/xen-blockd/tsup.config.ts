import { fileURLToPath } from 'node:url';
import { defineConfig, type Options } from 'tsup';
import { base } from '../../tsup.base.js';

type Plugin = NonNullable<Options['esbuildPlugins']>[number];

/**
 * Packages whose code the program has in its own few files: guests wait while it is loaded, and each module that Node
 * has to find costs about a millisecond. Those with an addon, and what they import, stay packages of their own.
 */
const BUNDLED = /^@xenpv\/(blkfront|blkif|emulator|ring|xen-block|xenbus|xenstore|xenstored)$/;
const PACKAGE_ROOT = /\/packages\/([^/]+)\/src\/package-root\.ts$/;

/** Bundles sources, so that no other package must be built first. */
const sources: Plugin = {
  name: 'sources',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: BUNDLED }, ({ path }) => ({
      path: fileURLToPath(new URL(`../../packages/${BUNDLED.exec(path)?.[1]}/src/index.ts`, import.meta.url)),
      sideEffects: false,
    }));
    // The program's own folder is not the one that has the package's worker.
    onLoad({ filter: PACKAGE_ROOT }, ({ path }) => ({
      contents: `import { createRequire } from 'node:module';
        import { pathToFileURL } from 'node:url';
        const manifest = createRequire(import.meta.url).resolve('@xenpv/${PACKAGE_ROOT.exec(path)?.[1]}/package.json');
        export const packageRoot = new URL('.', pathToFileURL(manifest));`,
    }));
  },
};

export default defineConfig({
  ...base,
  entry: { main: 'src/main.ts', program: 'src/program.ts', guest: 'src/demo/guest.ts' },
  format: ['esm'],
  noExternal: [BUNDLED],
  esbuildPlugins: [sources],
});
