import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const root = dirname(fileURLToPath(import.meta.url));

/** Every package's tests in one run from here. Vitest finds this file from inside a package too, which then runs alone. */
export default defineConfig({
  test: process.cwd() === root ? { projects: ['packages/*', 'apps/*', 'examples', 'bench', 'test-support'] } : {},
});
