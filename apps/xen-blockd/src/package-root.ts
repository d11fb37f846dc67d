import { readFileSync } from 'node:fs';

// The built modules lie in dist/, the sources in src/: either way the package is one folder up.
/** The package's folder. */
export const packageRoot = new URL('..', import.meta.url);

let version: string | undefined;

/** As package.json had it when it was asked for first: a package that is installed meanwhile is not what runs. */
export function packageVersion(): string {
  version ??= (JSON.parse(readFileSync(new URL('package.json', packageRoot), 'utf8')) as { version: string }).version;
  return version;
}
