/** How native addons are compiled: by the compiler itself, with the headers of Node-API from npm. */
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { run } from './steps.mjs';
import { ROOT } from './workspace.mjs';

const COMPILERS = { x64: 'x86_64-linux-gnu-g++', arm64: 'aarch64-linux-gnu-g++' };
export const FLAGS = '-O2 -fPIC -shared -Wall -Wextra -ffunction-sections -fdata-sections'.split(' ');
export const LINK_FLAGS = '-Wl,--gc-sections -s'.split(' ');

/** The target of a binding.gyp. node-gyp reads Python's notation; ours keep to what is JSON too. */
export function readTarget(folder) {
  return JSON.parse(readFileSync(join(folder, 'native', 'binding.gyp'), 'utf8')).targets[0];
}

function includeFolders() {
  const require = createRequire(join(ROOT, 'packages', 'xen-sys', 'package.json'));
  const ofNode = join(dirname(process.execPath), '..', 'include', 'node');
  const folders = [require('node-api-headers').include_dir, dirname(require.resolve('node-addon-api'))];
  return existsSync(ofNode) ? [...folders, ofNode] : folders;
}

/** Compiles the addon of a package's folder to `output`, with the compiler's `flags`. */
export async function compileAddon(folder, compiler, flags, output) {
  const target = readTarget(folder);
  const args = [
    ...flags.filter((flag) => !flag.startsWith('-Wl,') && flag !== '-s'),
    ...(target.cflags_cc ?? ['-std=c++17']),
    '-DBUILDING_NODE_EXTENSION',
    `-DNODE_GYP_MODULE_NAME=${target.target_name.replace(/\W/g, '_')}`,
    ...(target.defines ?? []).map((define) => `-D${define}`),
    ...includeFolders().flatMap((include) => ['-isystem', include]),
    ...target.sources,
    ...flags.filter((flag) => flag.startsWith('-Wl,') || flag === '-s'),
    ...(target.libraries ?? []),
    '-o',
    output,
  ];
  await run(`native: ${basename(folder)} with ${compiler}`, compiler, args, { cwd: join(folder, 'native') });
}

async function isInstalled(compiler) {
  return run('compiler', compiler, ['--version']).then(
    () => true,
    () => false,
  );
}

/** The compiler for an architecture, or undefined. */
export async function compilerFor(arch) {
  const candidates = arch === process.arch ? ['g++', 'c++', COMPILERS[arch]] : [COMPILERS[arch]];
  for (const compiler of candidates) if (compiler && (await isInstalled(compiler))) return compiler;
  return undefined;
}
