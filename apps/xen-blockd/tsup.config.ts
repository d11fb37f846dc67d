import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { defineConfig, type Options } from 'tsup';
import { base } from '../../tsup.base.js';

type Plugin = NonNullable<Options['esbuildPlugins']>[number];

/** Tests of the process replace the machine's Xen there. */
const NOT_BUNDLED = '@xenpv/xen-sys';
const OURS = /^@xenpv\/([^/]+)$/;
const PACKAGE_ROOT = /\/packages\/([^/]+)\/src\/package-root\.ts$/;

/**
 * Our own packages come into the program from their sources, so that no other package must be built first. They are its
 * dependencies nevertheless: from there come their addons, and their modules for threads.
 */
const sources: Plugin = {
  name: 'sources',
  setup({ onResolve, onLoad }) {
    // Where a package's folder is asked for, it is not bundled.
    onResolve({ filter: /^@xenpv\/[^/]+\/package\.json$/ }, ({ path }) => ({ path, external: true }));
    onResolve({ filter: OURS }, ({ path }) => {
      if (path === NOT_BUNDLED) return { path, external: true };
      return {
        path: fileURLToPath(new URL(`../../packages/${OURS.exec(path)?.[1]}/src/index.ts`, import.meta.url)),
        sideEffects: false,
      };
    });
    onLoad({ filter: PACKAGE_ROOT }, async ({ path }) => {
      const text = await readFile(path, 'utf8');
      const root = `pathToFileURL(require.resolve('@xenpv/${PACKAGE_ROOT.exec(path)?.[1]}/package.json'))`;
      const contents = text.replace("new URL('..', import.meta.url)", `new URL('.', ${root})`);
      if (contents === text) throw new Error(`${path}: how it finds its folder is not known here`);
      return { contents: `import { pathToFileURL } from 'node:url';\n${contents}`, loader: 'ts' };
    });
    // It looks for an addon among the files of the package that asks.
    onResolve({ filter: /^node-gyp-build$/ }, () => ({ path: 'node-gyp-build', namespace: 'of-blockdev' }));
    onLoad({ filter: /.*/, namespace: 'of-blockdev' }, () => ({
      contents: `import { createRequire } from 'node:module';
        export default createRequire(require.resolve('@xenpv/blockdev/package.json'))('node-gyp-build');`,
    }));
  },
};

/**
 * main.js takes the signals and loads the program, which is one file: guests wait while a daemon starts, and finding and
 * reading a module takes a millisecond. It is CommonJS, because only of that can the compiled code be kept.
 */
export default defineConfig([
  { ...base, entry: { main: 'src/main.ts', guest: 'src/demo/guest.ts' }, format: ['esm'] },
  {
    ...base,
    entry: { program: 'src/program.ts' },
    format: ['cjs'],
    shims: true,
    splitting: false,
    noExternal: [/./],
    esbuildPlugins: [sources],
  },
]);
