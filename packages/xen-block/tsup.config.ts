import { defineConfig } from 'tsup';
import { base } from '../../tsup.base.js';

// The shims give CommonJS an import.meta.url, by which the worker's module is found.
export default defineConfig({ ...base, shims: true, entry: { index: 'src/index.ts', worker: 'src/hosts/worker.ts' } });
