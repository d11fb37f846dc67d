import { defineConfig } from 'tsup';
import { base } from '../../tsup.base.js';

/** The shims give the CommonJS build an import.meta.url, which finds attach.js for worker threads. */
export default defineConfig({
  ...base,
  entry: { index: 'src/index.ts', attach: 'src/attach.ts', join: 'src/join.ts' },
  shims: true,
});
