import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');

/** The workspace's packages: folder relative to the root, and package.json. */
export function workspacePackages() {
  const folders = ['packages', 'apps'].flatMap((group) =>
    readdirSync(join(ROOT, group)).map((name) => `${group}/${name}`),
  );
  return [
    ...folders,
    'examples',
    'examples/disk-lister',
    'examples/entropy-device',
    'examples/fault-test',
    'bench',
    'test-support',
  ]
    .filter((folder) => existsSync(join(ROOT, folder, 'package.json')))
    .sort()
    .map((folder) => ({ folder, manifest: JSON.parse(readFileSync(join(ROOT, folder, 'package.json'), 'utf8')) }));
}

/** Those that a registry gets. */
export function publishedPackages() {
  return workspacePackages().filter(({ manifest }) => !manifest.private);
}

/** Paths below `folder`, relative to the root, without what is built or installed. */
export function filesBelow(folder) {
  const skipped = new Set(['node_modules', 'dist', 'build', 'prebuilds', '.turbo', 'coverage']);
  const found = [];
  for (const entry of readdirSync(join(ROOT, folder), { withFileTypes: true })) {
    if (skipped.has(entry.name)) continue;
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory()) found.push(...filesBelow(path));
    else if (entry.isFile()) found.push(path);
  }
  return found.sort();
}

/** A hash of the files' names and contents, and of Node's version. */
export function hashOf(paths) {
  const hash = createHash('sha256').update(process.version);
  for (const path of paths) hash.update(`\0${path}\0`).update(readFileSync(join(ROOT, path)));
  return hash.digest('hex');
}

const stampPath = (name) => join(ROOT, '.tools', 'stamps', name);

/** Whether the step `name` was last finished with the same inputs. */
export function isFresh(name, hash) {
  const path = stampPath(name);
  return existsSync(path) && readFileSync(path, 'utf8') === hash;
}

export function markFresh(name, hash) {
  mkdirSync(dirname(stampPath(name)), { recursive: true });
  writeFileSync(stampPath(name), hash);
}
