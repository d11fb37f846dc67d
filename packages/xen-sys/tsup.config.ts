import { defineConfig } from 'tsup';
import { base } from '../../tsup.base.js';

export default defineConfig({
  ...base,
  shims: true,
  entry: { index: 'src/index.ts', testing: 'src/testing/index.ts' },
});
