/** The tarballs of all that is published, as a registry would get them. */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { run, StepError } from '../lib/steps.mjs';
import { publishedPackages, ROOT } from '../lib/workspace.mjs';

const RELATIVE_IMPORT = /(?:from|import|require\(|import\()\s*['"](\.\/[^'"]+)['"]/g;
const ENTRY = /(\w+): 'src\/|'src\/([\w-]+)\.ts'/g;

/**
 * Packs every published package into `target`, and resolves with `{ folder, name, tarball, packed, unpacked }` of each,
 * in bytes. What an earlier build has left in dist is not packed. Errors: StepError, which names what is not built.
 */
export async function packAll(work) {
  const packages = publishedPackages();
  const versions = new Map(packages.map(({ manifest }) => [manifest.name, manifest.version]));
  const packed = [];
  for (const { folder, manifest } of packages) {
    const stage = join(work, 'stage', folder);
    stagePackage(join(ROOT, folder), stage, manifest, versions);
    const target = join(work, 'tarballs');
    mkdirSync(target, { recursive: true });
    const args = ['pack', '--json', '--ignore-scripts', '--pack-destination', target];
    const [{ filename, size, unpackedSize }] = JSON.parse(await run(`pack ${folder}`, 'npm', args, { cwd: stage }));
    const tarball = join(target, filename.replace(/^@/, '').replace('/', '-'));
    packed.push({ folder, name: manifest.name, tarball, packed: size, unpacked: unpackedSize });
  }
  return packed;
}

function stagePackage(folder, stage, manifest, versions) {
  const copy = (path) => {
    mkdirSync(dirname(join(stage, path)), { recursive: true });
    cpSync(join(folder, path), join(stage, path), { recursive: true });
  };
  for (const path of builtFiles(folder, manifest)) copy(join('dist', path));
  const named = manifest.files.map((path) => path.split('/**')[0]).filter((path) => path !== 'dist');
  for (const path of [...named, 'README.md']) if (existsSync(join(folder, path))) copy(path);
  cpSync(join(ROOT, 'LICENSE'), join(stage, 'LICENSE'));
  writeFileSync(join(stage, 'package.json'), `${JSON.stringify(asPublished(manifest, versions), null, 2)}\n`);
}

/** Of a workspace's ranges, what pnpm would publish. */
function asPublished(manifest, versions) {
  const { devDependencies: _, scripts: __, ...published } = manifest;
  for (const kind of ['dependencies', 'peerDependencies'].filter((key) => manifest[key] !== undefined)) {
    const ranges = Object.entries(manifest[kind]).map(([name, range]) => [
      name,
      range.replace('workspace:^', `^${versions.get(name)}`).replace('workspace:', ''),
    ]);
    published[kind] = Object.fromEntries(ranges);
  }
  return published;
}

/** The files of dist that the entry points of tsup.config.ts reach, with their types and maps. */
function builtFiles(folder, manifest) {
  const config = readFileSync(join(folder, 'tsup.config.ts'), 'utf8');
  const dist = join(folder, 'dist');
  const present = new Set(existsSync(dist) ? readdirSync(dist) : []);
  const names = [...config.matchAll(ENTRY)].map(([, key, file]) => key ?? file);
  const built = names.flatMap((name) => ['js', 'cjs', 'd.ts', 'd.cts'].map((end) => `${name}.${end}`));
  const named = namedFiles(manifest);
  for (const path of named) {
    if (!present.has(path)) throw new StepError('pack', `${folder}/dist/${path} is not built; npm run build makes it`);
  }
  return reachable(dist, present, [...built, ...named]);
}

/** Those that package.json points to. */
function namedFiles({ exports, bin }) {
  const targets = [...Object.values(exports ?? {}), bin ?? {}].flatMap(
    (value) => JSON.stringify(value).match(/\.\/dist\/[^"]+/g) ?? [],
  );
  return new Set(targets.map((path) => path.replace('./dist/', '')));
}

/** The files of a folder that these import, by relative paths, and themselves; with their maps. */
export function reachable(folder, present, entries) {
  const found = new Set(entries.filter((name) => present.has(name)));
  for (const name of found) {
    for (const [, path] of readFileSync(join(folder, name), 'utf8').matchAll(RELATIVE_IMPORT)) {
      const target = path.slice('./'.length);
      const typed = name.includes('.d.') ? target.replace(/\.(c?)js$/, '.d.$1ts') : target;
      if (present.has(typed)) found.add(typed);
    }
  }
  return [...found].flatMap((name) => (present.has(`${name}.map`) ? [name, `${name}.map`] : [name])).sort();
}
