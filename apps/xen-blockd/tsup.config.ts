import { defineConfig } from 'tsup';
import { base } from '../../tsup.base.js';

export default defineConfig({ ...base, entry: { main: 'src/main.ts', guest: 'src/demo/guest.ts' }, format: ['esm'] });
