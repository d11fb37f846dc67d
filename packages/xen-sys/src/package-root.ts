import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const found = new Map<string, URL>();

/**
 * The folder of an installed package, as a URL that ends with `/`. `moduleUrl` is the `import.meta.url` of a module in its
 * dist/ or src/. In a bundle that is the bundle's, or undefined where it is CommonJS: then Node looks for the package from
 * there, or from the program's main file, as it would for an import. Where it finds none, the folder is one that has no
 * files of the package. It is looked for once.
 */
export function packageFolder(name: string, moduleUrl: string | undefined): URL {
  const from = moduleUrl ?? pathToFileURL(process.argv[1] ?? join(process.cwd(), 'main')).href;
  const key = `${name} ${from}`;
  const folder = found.get(key) ?? findFolder(name, from);
  found.set(key, folder);
  return folder;
}

function findFolder(name: string, from: string): URL {
  const above = new URL('..', from);
  if (nameOf(above) === name) return above;
  try {
    return new URL('.', pathToFileURL(createRequire(from).resolve(`${name}/package.json`)));
  } catch {
    return above;
  }
}

function nameOf(folder: URL): string | undefined {
  try {
    return JSON.parse(readFileSync(new URL('package.json', folder), 'utf8')).name;
  } catch {
    return undefined;
  }
}

/** The package's folder. */
export const packageRoot = (): URL => packageFolder('@xenpv/xen-sys', import.meta.url);
