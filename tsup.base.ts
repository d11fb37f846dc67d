import type { Options } from 'tsup';

/** What every package shares: ES modules and CommonJS for Node 20, types by a second run (`build:types`). */
export const base: Options = {
  format: ['esm', 'cjs'],
  target: 'node20',
  platform: 'node',
  sourcemap: true,
  clean: false,
  splitting: true,
  shims: false,
};
