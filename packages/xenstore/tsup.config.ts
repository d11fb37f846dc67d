import { defineConfig } from 'tsup';
import { base } from '../../tsup.base.js';

export default defineConfig([
  // The shims give CommonJS the import.meta.url by which ./testing finds test-servers/.
  { ...base, shims: true, entry: ['src/index.ts', 'src/testing.ts'] },
  { ...base, format: 'esm', entry: ['src/cli.ts'] },
]);
