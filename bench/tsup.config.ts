import { defineConfig } from 'tsup';
import { base } from '../tsup.base.js';

export default defineConfig({ ...base, entry: ['src/*.ts', 'src/threads/*.ts', '!src/*.test.ts'], format: ['esm'] });
