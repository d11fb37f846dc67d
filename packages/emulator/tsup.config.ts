import { defineConfig } from 'tsup';
import { base } from '../../tsup.base.js';

/** The shims give the CommonJS build an import.meta.url, which finds attach.js for worker threads. */
export default defineConfig({ ...base, entry: ['src/index.ts', 'src/attach.ts', 'src/join.ts'], shims: true });
