/**
 * Builds the addon of each package that has a native/binding.gyp into its prebuilds/, where node-gyp-build finds it. An
 * addon whose sources are those that it was built from is left alone. The compiler is called directly, with the headers of Node-API from npm:
 * node-gyp would fetch those of Node itself. (A binding.gyp beside package.json makes every installation run node-gyp.)
 */
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import {
  compileAddon,
  compilerFor,
  compilerVersion,
  FLAGS,
  LINK_FLAGS,
  PORTABLE_FLAGS,
  PORTABLE_LINKS,
  PORTABLE_SOURCES,
  readTarget,
} from './lib/native.mjs';
import { readArguments, runMain } from './lib/program.mjs';
import { StepError } from './lib/steps.mjs';
import { ROOT } from './lib/workspace.mjs';

const USAGE = `usage: node scripts/build-native.mjs [--all] [PACKAGE_FOLDER ...]

Builds the native addons for this machine.

  --all    for x64 and arm64, as far as their compilers are installed
  --check  builds each twice, in two folders, and compares them with each other and, where it is of the same compiler, with
           what is in prebuilds/; changes nothing
  --help   this text
`;

const ARCHITECTURES = ['x64', 'arm64'];

function sourceHash(folder) {
  // The same in every clone.
  const flags = JSON.stringify([FLAGS, LINK_FLAGS, PORTABLE_FLAGS, PORTABLE_LINKS]).replaceAll(ROOT, '.');
  const hash = createHash('sha256').update(flags);
  const names = readdirSync(join(folder, 'native')).filter((name) => /\.(cc|c|h|gyp)$/.test(name));
  const files = [...names.sort().map((name) => join(folder, 'native', name)), ...PORTABLE_SOURCES];
  for (const file of files) hash.update(`\0${basename(file)}\0`).update(readFileSync(file));
  return hash.digest('hex');
}

/** Where the build lies, and what it was made of: a hash of the sources, and the compiler. */
function placeOf(folder, arch) {
  const output = join(folder, 'prebuilds', `linux-${arch}`, `${readTarget(folder).target_name}.glibc.node`);
  const stamp = output.replace(/\.node$/, '.sources');
  const [hash, compiler] =
    existsSync(output) && existsSync(stamp) ? readFileSync(stamp, 'utf8').trim().split('\n') : [];
  return { output, stamp, hash, compiler };
}

const compile = (folder, compiler, output) =>
  compileAddon(folder, compiler, [...FLAGS, ...LINK_FLAGS], output, { portable: true });

async function build(folder, arch, compiler) {
  const { output, stamp, hash } = placeOf(folder, arch);
  const wanted = sourceHash(folder);
  if (hash === wanted) return;
  mkdirSync(dirname(output), { recursive: true });
  rmSync(stamp, { force: true });
  // Whoever loads it meanwhile gets the old one or the new one.
  await compile(folder, compiler, `${output}.partial`);
  renameSync(`${output}.partial`, output);
  writeFileSync(stamp, `${wanted}\n${await compilerVersion(compiler)}\n`);
  console.log(`built ${output.slice(ROOT.length + 1)}`);
}

/** Errors: StepError, where one of two builds is not the other, or what lies in prebuilds/ is another. */
async function check(folder, arch, compiler) {
  const name = `${basename(folder)} for ${arch}`;
  const work = mkdtempSync(join(tmpdir(), 'build-native-'));
  try {
    const builds = [];
    for (const place of ['one', join('another', 'place')]) {
      const copy = join(work, place, basename(folder));
      cpSync(join(folder, 'native'), join(copy, 'native'), { recursive: true });
      await compile(copy, compiler, join(copy, 'addon.node'));
      builds.push(readFileSync(join(copy, 'addon.node')));
    }
    if (!builds[0].equals(builds[1])) throw new StepError('build-native', `two builds of ${name} differ`);
    const present = placeOf(folder, arch);
    if (present.compiler !== (await compilerVersion(compiler))) {
      console.log(
        `${name}: the same twice; what lies in prebuilds/ is of ${present.compiler ?? 'an unknown compiler'}`,
      );
    } else if (builds[0].equals(readFileSync(present.output))) {
      console.log(`${name}: the same twice, and what lies in prebuilds/`);
    } else {
      throw new StepError(
        'build-native',
        `${present.output} is not what its sources give; build it again and commit it`,
      );
    }
  } finally {
    rmSync(work, { recursive: true });
  }
}

function hasAddon(folder) {
  return existsSync(join(folder, 'native', 'binding.gyp'));
}

function packageFolders(named) {
  if (named.length > 0) return named.map((folder) => resolve(folder));
  if (hasAddon('.')) return [process.cwd()];
  return readdirSync(join(ROOT, 'packages'))
    .map((name) => join(ROOT, 'packages', name))
    .filter(hasAddon);
}

await runMain(async () => {
  const options = { all: { type: 'boolean', default: false }, check: { type: 'boolean', default: false } };
  const { values, positionals } = readArguments(USAGE, options, { positionals: true });
  const folders = packageFolders(positionals);
  for (const arch of values.all ? ARCHITECTURES : [process.arch]) {
    const compiler = await compilerFor(arch);
    if (!compiler) console.log(`linux-${arch}: no compiler, skipped`);
    for (const folder of compiler ? folders : []) await (values.check ? check : build)(folder, arch, compiler);
  }
});
