import { defineConfig } from 'tsup';
import { base } from '../../tsup.base.js';

// The shims give CommonJS an import.meta.url, by which the worker's module is found.
export default defineConfig({ ...base, shims: true, entry: ['src/index.ts', 'src/frontend.ts', 'src/worker.ts'] });
