/** Holds the package.json of all packages equal where they have no reason to differ. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT, workspacePackages } from '../lib/workspace.mjs';

const HOME = 'https://github.com/xenpv/xen-blockd';
const ADDON_FILES = ['native', 'prebuilds/**/*.node'];
const PACKAGE_JSON = './package.json';

const LIBRARY_SCRIPTS = {
  'build:js': 'tsup',
  'build:types': 'tsup --dts-only',
  build: 'pnpm run build:js && pnpm run build:types',
  typecheck: 'tsc',
  test: 'vitest run',
};
const PROGRAM_SCRIPTS = { 'build:js': 'tsup', build: 'tsup', typecheck: 'tsc', test: 'vitest run' };

/** Resolves with a note. Errors: one that has what differs as `output`. */
export async function checkManifests() {
  const packages = workspacePackages();
  const problems = packages.flatMap(({ folder, manifest }) =>
    problemsOf(manifest, expected(folder, manifest)).map((problem) => `${folder}/package.json: ${problem}`),
  );
  if (problems.length === 0) return `${packages.length} manifests`;
  throw Object.assign(new Error(`${problems.length} differences`), { output: problems.join('\n') });
}

/** The fields that follow from what the package is. */
function expected(folder, manifest) {
  const common = {
    version: manifest.private ? '0.0.0' : manifest.version,
    license: 'MIT',
    type: 'module',
    engines: { node: '>=20' },
  };
  if (manifest.private) return common;
  const published = {
    ...common,
    author: 'The xen-blockd authors',
    homepage: `${HOME}/tree/main/${folder}#readme`,
    bugs: { url: `${HOME}/issues` },
    repository: { type: 'git', url: `git+${HOME}.git`, directory: folder },
    sideEffects: false,
    publishConfig: { access: 'public', provenance: true },
  };
  return manifest.exports['.'] ? { ...published, ...library(folder, manifest) } : { ...published, ...program() };
}

function program() {
  return { exports: { [PACKAGE_JSON]: PACKAGE_JSON }, scripts: PROGRAM_SCRIPTS };
}

function library(folder, { exports, files }) {
  const entries = Object.keys(exports).filter((entry) => entry !== PACKAGE_JSON);
  const hasAddon = existsSync(join(ROOT, folder, 'native'));
  const own = (files ?? []).filter((name) => !['dist', 'CHANGELOG.md', ...ADDON_FILES].includes(name));
  return {
    main: './dist/index.cjs',
    module: './dist/index.js',
    types: './dist/index.d.ts',
    exports: { ...Object.fromEntries(entries.map(entryPoint)), [PACKAGE_JSON]: PACKAGE_JSON },
    files: ['dist', ...own, 'CHANGELOG.md', ...(hasAddon ? ADDON_FILES : [])],
    scripts: hasAddon ? { ...LIBRARY_SCRIPTS, 'build:native': 'node ../../scripts/build-native.mjs' } : LIBRARY_SCRIPTS,
    ...(hasAddon ? { gypfile: false } : {}),
  };
}

/** `.` is dist/index, `./testing` dist/testing: both module systems, with the types of each. */
function entryPoint(entry) {
  const path = entry === '.' ? './dist/index' : entry.replace(/^\./, './dist');
  return [
    entry,
    {
      import: { types: `${path}.d.ts`, default: `${path}.js` },
      require: { types: `${path}.d.cts`, default: `${path}.cjs` },
    },
  ];
}

function problemsOf(manifest, wanted) {
  const fields = Object.keys(wanted).filter((field) => text(manifest[field]) !== text(wanted[field]));
  const problems = fields.map((field) => `${field} is ${text(manifest[field])}, expected ${text(wanted[field])}`);
  // Of a peer with a narrower range, changesets would make each minor version a major one of whoever has it.
  for (const [name, range] of Object.entries(manifest.peerDependencies ?? {})) {
    if (range !== 'workspace:<1') problems.push(`${name} as a peer is ${range}, expected workspace:<1`);
  }
  if (!manifest.description) problems.push('description is missing');
  if (!manifest.private) problems.push(...keywordProblems(manifest.keywords ?? []));
  return [...problems, ...versionProblems({ ...manifest.dependencies, ...manifest.devDependencies })];
}

/** A registry is searched by them: what it is of, and what it is. */
function keywordProblems(keywords) {
  if (keywords.length < 4) return [`keywords are ${text(keywords)}, expected 4 or more`];
  return new Set(keywords).size === keywords.length ? [] : [`keywords are ${text(keywords)}, expected each once`];
}

/** Our own packages as they are here, others at one version: what was tested is what is installed. */
function versionProblems(dependencies) {
  return Object.entries(dependencies)
    .filter(([name, version]) =>
      name.startsWith('@xenpv/') ? version !== 'workspace:^' : !/^\d+\.\d+\.\d+$/.test(version),
    )
    .map(
      ([name, version]) =>
        `${name} is ${version}, expected ${name.startsWith('@xenpv/') ? 'workspace:^' : 'a version'}`,
    );
}

/** With the order of keys: conditions of exports are tried in theirs. */
const text = (value) => JSON.stringify(value) ?? 'missing';
