import { defineConfig } from 'tsup';
import { base } from '../../tsup.base.js';

// The shims give CommonJS an import.meta.url, by which the package finds its addon and its worker entry.
export default defineConfig({ ...base, shims: true, entry: ['src/index.ts', 'src/testing.ts', 'src/attach.ts'] });
