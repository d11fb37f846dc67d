import { fileURLToPath } from 'node:url';
import { defineConfig, type Options } from 'tsup';
import { base } from '../../tsup.base.js';

type Plugin = NonNullable<Options['esbuildPlugins']>[number];

/** Tests of the process replace the machine's Xen in the first; the second is only there where somebody wants it. */
const NOT_BUNDLED = ['@xenpv/xen-sys', '@xenpv/emulator', '@xenpv/emulator/join'];
const OURS = /^@xenpv\/([^/]+)/;

/**
 * Our own packages come into the program from their sources, so that no other package must be built first. They are its
 * dependencies nevertheless: from there come their addons, and their modules for threads.
 */
const sources: Plugin = {
  name: 'sources',
  setup({ onResolve }) {
    onResolve({ filter: OURS }, ({ path }) => {
      if (NOT_BUNDLED.includes(path)) return { path, external: true };
      return {
        path: fileURLToPath(new URL(`../../packages/${OURS.exec(path)?.[1]}/src/index.ts`, import.meta.url)),
        sideEffects: false,
      };
    });
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
