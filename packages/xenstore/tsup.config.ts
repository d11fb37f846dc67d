import { defineConfig } from 'tsup';
import { base } from '../../tsup.base.js';

// The shims give CommonJS the import.meta.url by which ./testing finds test-servers/.
export default defineConfig({ ...base, shims: true, entry: ['src/index.ts', 'src/testing.ts', 'src/cli.ts'] });
