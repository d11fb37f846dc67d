/** The program with all that it needs at run time, as it lies in /usr/lib/xen-blockd. */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { TOOL_ENV } from '../lib/setup.mjs';
import { run, StepError } from '../lib/steps.mjs';
import { ROOT } from '../lib/workspace.mjs';

const APP = join(ROOT, 'apps', 'xen-blockd');
/** Builds at a time. */
const BUILDS = 4;
/** Of a library from npm, what runs. */
const SOURCES = /\.(c|m)?js$|(^|\/)package\.json$/;
const NOT_RUN = new Set([
  'test',
  'tests',
  '__tests__',
  'benchmarks',
  'bench',
  'docs',
  'example',
  'examples',
  'node_modules',
]);
/** Dependencies that only a compiler reads. */
const BUILD_ONLY = new Set(['node-addon-api']);
/** Of package.json, what Node reads, and what says whose it is. */
const FIELDS = ['name', 'version', 'description', 'license', 'type', 'exports', 'main'];

/**
 * Writes it into `target`, an empty folder, and resolves with the libraries from npm that it has. `architecture` is
 * Node's name of the machine that it is for. The JavaScript is built anew, so that nothing that an earlier build has
 * left in dist gets in.
 */
export async function writeProgram(target, { architecture, interpreter }) {
  const packages = findPackages();
  const ours = [...packages].filter(([, { isOurs }]) => isOurs);
  const work = ours.map(
    ([name, { folder }]) =>
      () =>
        buildPackage(folder, folderOf(target, name), architecture),
  );
  await Promise.all(
    Array.from({ length: BUILDS }, async () => {
      for (let next = work.pop(); next; next = work.pop()) await next();
    }),
  );
  setInterpreter(join(target, 'dist', 'main.js'), interpreter);
  const libraries = [...packages].filter(([, { isOurs }]) => !isOurs);
  for (const [name, { folder }] of libraries) copyLibrary(folder, folderOf(target, name));
  return libraries.map(([, { folder, manifest }]) => ({ folder, manifest })).sort(byName);
}

const byName = (a, b) => (a.manifest.name < b.manifest.name ? -1 : 1);
const folderOf = (target, name) => (name === 'xen-blockd' ? target : join(target, 'node_modules', name));

/** All that the program imports, by name: one version of each. */
function findPackages() {
  const found = new Map();
  const add = (name, folder) => {
    const known = found.get(name);
    if (known) {
      if (known.folder === folder) return;
      throw new StepError('deb', `two versions of ${name}: ${known.folder} and ${folder}`);
    }
    const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    found.set(name, { folder, manifest, isOurs: !folder.includes('/node_modules/') });
    for (const dependency of Object.keys(manifest.dependencies ?? {})) {
      if (!BUILD_ONLY.has(dependency)) add(dependency, findDependency(folder, dependency));
    }
  };
  add('xen-blockd', APP);
  return found;
}

function findDependency(folder, name) {
  for (let at = folder; at.startsWith(ROOT); at = dirname(at)) {
    for (const path of [join(at, 'node_modules', name), ...(at.endsWith('node_modules') ? [join(at, name)] : [])]) {
      if (existsSync(path)) return realpathSync(path);
    }
  }
  throw new StepError('deb', `${folder} needs ${name}, which is not installed`);
}

async function buildPackage(folder, target, architecture) {
  mkdirSync(target, { recursive: true });
  const options = ['--no-sourcemap', '--out-dir', join(target, 'dist')];
  await run(`deb: build ${folder}`, join(ROOT, 'node_modules', '.bin', 'tsup'), options, {
    cwd: folder,
    env: TOOL_ENV,
  });
  writeManifest(folder, target, ({ import: esm, require: cjs }) => ({ import: esm.default, require: cjs.default }));
  if (existsSync(join(folder, 'page'))) cpSync(join(folder, 'page'), join(target, 'page'), { recursive: true });
  const built = join(folder, 'prebuilds');
  if (!existsSync(built)) return;
  const addons = join(built, `linux-${architecture}`);
  if (!existsSync(addons)) throw new StepError('deb', `${addons} is missing; see scripts/build-native.mjs --all`);
  cpSync(addons, join(target, 'prebuilds', `linux-${architecture}`), {
    recursive: true,
    // Debian's Node is of glibc.
    filter: (path) => !/\.sources$|\.musl\.node$/.test(path),
  });
}

function copyLibrary(folder, target) {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  for (const entry of entries) {
    const path = join(entry.parentPath ?? entry.path, entry.name).slice(folder.length + 1);
    if (!SOURCES.test(path) || path.split('/').some((part) => NOT_RUN.has(part))) continue;
    mkdirSync(dirname(join(target, path)), { recursive: true });
    if (path === 'package.json') writeManifest(folder, target);
    else cpSync(join(folder, path), join(target, path));
  }
}

/** `entryOf`: what an entry point with conditions becomes. */
function writeManifest(folder, target, entryOf) {
  const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  const kept = Object.fromEntries(FIELDS.flatMap((key) => (manifest[key] === undefined ? [] : [[key, manifest[key]]])));
  if (entryOf) {
    delete kept.main;
    const entries = Object.entries(kept.exports).map(([name, to]) => [name, typeof to === 'string' ? to : entryOf(to)]);
    kept.exports = Object.fromEntries(entries);
  }
  writeFileSync(join(target, 'package.json'), `${JSON.stringify(kept, null, 2)}\n`);
}

function setInterpreter(path, interpreter) {
  const text = readFileSync(path, 'utf8');
  const changed = text.replace(/^#!.*\n/, `#!${interpreter}\n`);
  if (!changed.startsWith('#!')) throw new StepError('deb', `${path} does not say what runs it`);
  rmSync(path);
  writeFileSync(path, changed, { mode: 0o755 });
}
