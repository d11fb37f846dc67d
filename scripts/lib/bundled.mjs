/** Modules of the daemon as they run, for pages that are made from what they say. */
import { rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ROOT } from './workspace.mjs';

// tsup brings it.
const { build } = createRequire(createRequire(import.meta.url).resolve('tsup'))('esbuild');

/** What this source text exports, whose imports are those of a file in `folder`. Other packages must be built. */
export async function importBundled(contents, folder) {
  // One folder below the package, as src/ and dist/ are: its modules look for the package there.
  const outfile = join(ROOT, folder, 'node_modules', `.page-${process.pid}-${Date.now()}.mjs`);
  try {
    await build({
      stdin: { contents, loader: 'ts', resolveDir: join(ROOT, folder, 'src'), sourcefile: 'page.ts' },
      bundle: true,
      packages: 'external',
      platform: 'node',
      target: 'node20',
      format: 'esm',
      outfile,
      logLevel: 'error',
    });
    return await import(pathToFileURL(outfile).href);
  } finally {
    rmSync(outfile, { force: true });
  }
}
