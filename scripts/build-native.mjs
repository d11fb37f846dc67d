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
import { readRequirements } from './lib/elf.mjs';
import { fetchMusl, findMusl } from './lib/musl.mjs';
import {
  compileAddon,
  compilerFor,
  compilerVersion,
  FLAGS,
  LINK_FLAGS,
  portableInputs,
  readTarget,
} from './lib/native.mjs';
import { readArguments, runMain } from './lib/program.mjs';
import { StepError } from './lib/steps.mjs';
import { ROOT } from './lib/workspace.mjs';

const USAGE = `usage: node scripts/build-native.mjs [--all] [PACKAGE_FOLDER ...]

Builds the native addons for this machine, with glibc.

  --all      for x64 and arm64, with glibc and with musl, as far as compilers and musl are there
  --install  with --all, fetches musl first (Debian's packages, into .tools; needs apt, not root)
  --check    builds each twice, in two folders, and compares them with each other and, where it is of the same compiler, with
             what is in prebuilds/; changes nothing
  --help     this text
`;

/** `npm run test:native` looks for it. */
const NOT_COMPARED = 'NOT COMPARED with what lies in prebuilds/';

const ARCHITECTURES = ['x64', 'arm64'];

/** What Node brings to an addon: Node-API, and libuv. */
const OF_NODE = /^(napi|node_api|uv)_/;

function sourceHash(folder, libc) {
  const { flags, files: portable } = portableInputs(libc);
  const hash = createHash('sha256').update(flags);
  const names = readdirSync(join(folder, 'native')).filter((name) => /\.(cc|c|h|gyp)$/.test(name));
  const files = [...names.sort().map((name) => join(folder, 'native', name)), ...portable];
  for (const file of files) hash.update(`\0${basename(file)}\0`).update(readFileSync(file));
  return hash.digest('hex');
}

/** Where the build lies, and what it was made of: a hash of the sources, and the compiler. */
function placeOf(folder, { arch, libc }) {
  const output = join(folder, 'prebuilds', `linux-${arch}`, `${readTarget(folder).target_name}.${libc}.node`);
  const stamp = output.replace(/\.node$/, '.sources');
  const [hash, compiler] =
    existsSync(output) && existsSync(stamp) ? readFileSync(stamp, 'utf8').trim().split('\n') : [];
  return { output, stamp, hash, compiler };
}

/** Errors: StepError, also where musl has not what the build asks of it. The loader might tell only when it is called. */
async function compile(folder, { compiler, musl }, output) {
  await compileAddon(folder, compiler, [...FLAGS, ...LINK_FLAGS], output, { portable: true, musl });
  if (!musl) return;
  const offered = new Set(readRequirements(join(musl.library, 'libc.so')).symbols.map(({ name }) => name));
  const missing = readRequirements(output)
    .symbols.filter(({ name, defined }) => !defined && !OF_NODE.test(name) && !offered.has(name))
    .map(({ name }) => name);
  if (missing.length > 0) throw new StepError('build-native', `${output}: musl has no ${missing.join(', ')}`);
}

async function build(folder, target) {
  const { output, stamp, hash } = placeOf(folder, target);
  const wanted = sourceHash(folder, target.libc);
  if (hash === wanted) return;
  mkdirSync(dirname(output), { recursive: true });
  rmSync(stamp, { force: true });
  // Whoever loads it meanwhile gets the old one or the new one.
  await compile(folder, target, `${output}.partial`);
  renameSync(`${output}.partial`, output);
  writeFileSync(stamp, `${wanted}\n${target.version}\n`);
  console.log(`built ${output.slice(ROOT.length + 1)}`);
}

/** Errors: StepError, where one of two builds is not the other, or what lies in prebuilds/ is another. */
async function check(folder, target) {
  const name = `${basename(folder)} for ${target.arch}, ${target.libc}`;
  const work = mkdtempSync(join(tmpdir(), 'build-native-'));
  try {
    const builds = [];
    for (const place of ['one', join('another', 'place')]) {
      const copy = join(work, place, basename(folder));
      cpSync(join(folder, 'native'), join(copy, 'native'), { recursive: true });
      await compile(copy, target, join(copy, 'addon.node'));
      builds.push(readFileSync(join(copy, 'addon.node')));
    }
    if (!builds[0].equals(builds[1])) throw new StepError('build-native', `two builds of ${name} differ`);
    const present = placeOf(folder, target);
    if (present.compiler !== target.version) {
      const other = present.compiler ?? 'an unknown compiler';
      console.log(`${name}: the same twice; ${NOT_COMPARED}, which is of ${other}, this of ${target.version}`);
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

/** `{ arch, libc, compiler, version, musl }`; `version` tells all that other bytes of the same sources come from. */
async function targets({ all, install }) {
  const found = [];
  for (const arch of all ? ARCHITECTURES : [process.arch]) {
    const compiler = await compilerFor(arch);
    if (!compiler) {
      console.log(`linux-${arch}: no compiler, skipped`);
      continue;
    }
    const version = await compilerVersion(compiler);
    found.push({ arch, libc: 'glibc', compiler, version });
    if (!all) continue;
    const musl = install ? await fetchMusl(arch) : findMusl(arch);
    if (musl) found.push({ arch, libc: 'musl', compiler, version: `${version}, musl ${musl.version}`, musl });
    else console.log(`linux-${arch} with musl: no musl, skipped; --install fetches it`);
  }
  return found;
}

await runMain(async () => {
  const flag = { type: 'boolean', default: false };
  const { values, positionals } = readArguments(
    USAGE,
    { all: flag, check: flag, install: flag },
    { positionals: true },
  );
  const folders = packageFolders(positionals);
  for (const target of await targets(values)) {
    for (const folder of folders) await (values.check ? check : build)(folder, target);
  }
});
