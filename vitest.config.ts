import { defineConfig } from 'vitest/config';

/** Every package's tests in one run; each package can also run its own. */
export default defineConfig({ test: { projects: ['packages/*', 'apps/*', 'examples', 'bench'] } });
