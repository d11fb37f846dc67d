/** How native addons are compiled: by the compiler itself, with the headers of Node-API from npm. */
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { MUSL_LINKS, muslFlags } from './musl.mjs';
import { run } from './steps.mjs';
import { ROOT } from './workspace.mjs';

const COMPILERS = { x64: 'x86_64-linux-gnu-g++', arm64: 'aarch64-linux-gnu-g++' };
export const FLAGS = '-O2 -fPIC -shared -Wall -Wextra -ffunction-sections -fdata-sections'.split(' ');
export const LINK_FLAGS = '-Wl,--gc-sections -Wl,--build-id=none -s'.split(' ');

/** What makes a build load on other machines than this: scripts/native has why. */
const PORTABLE = join(ROOT, 'scripts', 'native');
const PORTABLE_SOURCE = join(PORTABLE, 'portable.cc');
const PORTABLE_HEADERS = { glibc: join(PORTABLE, 'portable.h'), musl: join(PORTABLE, 'musl.h') };
/**
 * By C library and library of a binding.gyp. libdl is in glibc's own since 2.34, and was a library before; `-ldl` would not
 * name it in the addon. It is in musl's.
 */
const PORTABLE_LINKS = {
  glibc: { '-ldl': ['-Wl,--push-state,--no-as-needed', '-l:libdl.so.2', '-Wl,--pop-state'] },
  musl: { '-ldl': [] },
};

/** What a portable build depends on beside the sources of its addon: flags, and files. The same in every clone. */
export function portableInputs(libc) {
  const flags = [FLAGS, LINK_FLAGS, portableFlags(libc), PORTABLE_LINKS[libc], libc === 'musl' ? MUSL_LINKS : []];
  return { flags: JSON.stringify(flags).replaceAll(ROOT, '.'), files: [PORTABLE_SOURCE, PORTABLE_HEADERS[libc]] };
}

function portableFlags(libc) {
  return ['-include', PORTABLE_HEADERS[libc], `-ffile-prefix-map=${ROOT}=.`];
}

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

/**
 * Compiles the addon of a package's folder to `output`, with the compiler's `flags`. `portable`: for glibc 2.28 and newer, or
 * with `musl` ({@link findMusl}) for that, with nothing of libstdc++ left to load; else for this machine.
 */
export async function compileAddon(folder, compiler, flags, output, { portable = false, musl } = {}) {
  const target = readTarget(folder);
  const libc = musl ? 'musl' : 'glibc';
  const links = (target.libraries ?? []).flatMap((name) => (portable && PORTABLE_LINKS[libc][name]) || [name]);
  const static_ = ['-static-libstdc++', '-static-libgcc'];
  const ofMusl = musl ? await muslFlags(compiler, musl) : { compile: [], link: portable ? static_ : [] };
  const args = [
    ...flags.filter((flag) => !isLinkFlag(flag)),
    ...(target.cflags_cc ?? ['-std=c++17']),
    '-DBUILDING_NODE_EXTENSION',
    `-DNODE_GYP_MODULE_NAME=${target.target_name.replace(/\W/g, '_')}`,
    ...(target.defines ?? []).map((define) => `-D${define}`),
    ...ofMusl.compile,
    ...includeFolders().flatMap((include) => ['-isystem', include]),
    ...(portable ? portableFlags(libc) : []),
    ...target.sources,
    ...(portable ? [PORTABLE_SOURCE] : []),
    ...flags.filter(isLinkFlag),
    ...ofMusl.link,
    ...links,
    '-o',
    output,
  ];
  await run(`native: ${basename(folder)} with ${compiler}`, compiler, args, { cwd: join(folder, 'native') });
}

const isLinkFlag = (flag) => flag.startsWith('-Wl,') || flag === '-s';

/** Which compiler it is, with its version: another one makes other bytes of the same sources. */
export async function compilerVersion(compiler) {
  const [line] = (await run('compiler', compiler, ['--version'])).split('\n');
  return line.replace(/^\S+ /, '').trim();
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
