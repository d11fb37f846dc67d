import { readFileSync } from 'node:fs';

// The built modules lie in dist/, the sources in src/: either way the package is one folder up.
/** The package's folder. */
export const packageRoot = new URL('..', import.meta.url);

/** As package.json has it. */
export function packageVersion(): string {
  const manifest = JSON.parse(readFileSync(new URL('package.json', packageRoot), 'utf8')) as { version: string };
  return manifest.version;
}
