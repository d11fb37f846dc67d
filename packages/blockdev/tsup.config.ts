import { defineConfig } from 'tsup';
import { base } from '../../tsup.base.js';

// The shims give CommonJS an import.meta.url, by which the package finds its addon and its worker entry.
export default defineConfig({
  ...base,
  shims: true,
  entry: { index: 'src/index.ts', testing: 'src/testing/index.ts', attach: 'src/attach.ts' },
});
