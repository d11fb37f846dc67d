import { defineConfig } from 'tsup';
import { base } from '../../tsup.base.js';

export default defineConfig({ ...base, shims: true, entry: ['src/index.ts', 'src/testing.ts'] });
