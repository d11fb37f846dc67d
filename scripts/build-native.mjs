/**
 * Builds the addon of each package that has a native/binding.gyp into its prebuilds/, where node-gyp-build finds it. An
 * addon whose sources are those that it was built from is left alone. The compiler is called directly, with the headers of Node-API from npm:
 * node-gyp would fetch those of Node itself. (A binding.gyp beside package.json makes every installation run node-gyp.)
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { compileAddon, compilerFor, FLAGS, LINK_FLAGS, readTarget } from './lib/native.mjs';
import { readArguments, runMain } from './lib/program.mjs';
import { ROOT } from './lib/workspace.mjs';

const USAGE = `usage: node scripts/build-native.mjs [--all] [PACKAGE_FOLDER ...]

Builds the native addons for this machine.

  --all   for x64 and arm64, as far as their compilers are installed
  --help  this text
`;

const ARCHITECTURES = ['x64', 'arm64'];

function sourceHash(folder) {
  const hash = createHash('sha256').update([...FLAGS, ...LINK_FLAGS].join(' '));
  const names = readdirSync(join(folder, 'native')).filter((name) => /\.(cc|c|h|gyp)$/.test(name));
  for (const name of names.sort()) hash.update(`\0${name}\0`).update(readFileSync(join(folder, 'native', name)));
  return hash.digest('hex');
}

async function build(folder, arch, compiler) {
  const target = readTarget(folder);
  const output = join(folder, 'prebuilds', `linux-${arch}`, `${target.target_name}.glibc.node`);
  const stamp = output.replace(/\.node$/, '.sources');
  const hash = sourceHash(folder);
  if (existsSync(output) && existsSync(stamp) && readFileSync(stamp, 'utf8').trim() === hash) return;
  mkdirSync(dirname(output), { recursive: true });
  rmSync(stamp, { force: true });
  // Whoever loads it meanwhile gets the old one or the new one.
  await compileAddon(folder, compiler, [...FLAGS, ...LINK_FLAGS], `${output}.partial`);
  renameSync(`${output}.partial`, output);
  writeFileSync(stamp, `${hash}\n`);
  console.log(`built ${output.slice(ROOT.length + 1)}`);
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
  const options = { all: { type: 'boolean', default: false } };
  const { values, positionals } = readArguments(USAGE, options, { positionals: true });
  const folders = packageFolders(positionals);
  for (const arch of values.all ? ARCHITECTURES : [process.arch]) {
    const compiler = await compilerFor(arch);
    if (!compiler) console.log(`linux-${arch}: no compiler, skipped`);
    for (const folder of compiler ? folders : []) await build(folder, arch, compiler);
  }
});
