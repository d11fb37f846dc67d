import { defineConfig } from 'tsup';
import { base } from '../../tsup.base.js';

export default defineConfig([
  // The shims give CommonJS the import.meta.url by which ./testing finds its C source.
  { ...base, shims: true, entry: { index: 'src/index.ts', testing: 'src/testing/index.ts' } },
  { ...base, format: 'esm', entry: { cli: 'src/cli/main.ts' } },
]);
