/**
 * JavaScript on musl, on a machine with glibc, to try the addons for musl with. npm has no Node for musl by itself: for x64
 * pnpm's executable is one, with a program in it; for arm64 there is Bun, which loads the same addons.
 */
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fetchMusl, muslHeaderFlags } from './musl.mjs';
import { fetchPackages } from './npm.mjs';
import { run, StepError } from './steps.mjs';
import { ROOT } from './workspace.mjs';

const FOLDER = join(ROOT, '.tools', 'musl', 'runtime');
const LIBRARIES = ['libstdc++.so.6', 'libgcc_s.so.1'];
/** `glibc`: its loader, which libstdc++.so.6 names. */
const MACHINES = {
  x64: {
    compiler: 'x86_64-linux-gnu-gcc',
    loader: 'ld-musl-x86_64.so.1',
    glibc: 'ld-linux-x86-64.so.2',
    name: '@pnpm/linuxstatic-x64',
    version: '11.21.0',
    file: 'pnpm',
    change: withoutItsProgram,
  },
  arm64: {
    compiler: 'aarch64-linux-gnu-gcc',
    loader: 'ld-musl-aarch64.so.1',
    glibc: 'ld-linux-aarch64.so.1',
    name: '@oven/bun-linux-aarch64-musl',
    version: '1.4.5',
    file: join('bin', 'bun'),
    change: (program) => program,
    emulator: '/usr/bin/qemu-aarch64',
  },
};
/** Behind this name Node has `:1` where a program was put into it, and `:0` where none was. */
const FUSE = Buffer.from('NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2:1');

/** What is missing for a runtime of this architecture, in words, or undefined. It may still have to be fetched. */
export function missingForMusl(arch) {
  if (arch === process.arch) return undefined;
  const { emulator } = MACHINES[arch];
  if (emulator === undefined) return `a machine with ${arch}`;
  return existsSync(emulator) ? undefined : 'qemu-user';
}

/**
 * The command, to which arguments are added, or undefined where it was not fetched. To itself its program is musl's loader:
 * what it starts as `process.execPath` is neither Node nor Bun.
 */
export function findMuslRuntime(arch) {
  const { program, library, loader, preload } = placesOf(arch);
  if (missingForMusl(arch) !== undefined || !existsSync(program)) return undefined;
  const emulator = arch === process.arch ? [] : [MACHINES[arch].emulator];
  return [...emulator, loader, '--library-path', library, '--preload', preload, program];
}

/** The same, after it has been fetched and built where it was not there. Errors: StepError. */
export async function fetchMuslRuntime(arch) {
  const found = findMuslRuntime(arch);
  if (found) return found;
  const { folder, program, library, loader } = placesOf(arch);
  const { compiler, name, version, file, change } = MACHINES[arch];
  const musl = await fetchMusl(arch);
  mkdirSync(library, { recursive: true });
  copyFileSync(join(musl.library, 'libc.so'), loader);
  chmodSync(loader, 0o755);
  for (const one of LIBRARIES) {
    const path = await run('musl: gcc', compiler, [`-print-file-name=${one}`]);
    copyFileSync(path.trim(), join(library, one));
  }
  await buildPreload(arch, musl);
  await fetchPackages(folder, ['--force', `${name}@${version}`]);
  const bytes = change(readFileSync(join(folder, 'node_modules', name, file)));
  writeFileSync(`${program}.partial`, bytes, { mode: 0o755 });
  renameSync(`${program}.partial`, program);
  return findMuslRuntime(arch);
}

function placesOf(arch) {
  const folder = join(FOLDER, arch);
  const library = join(folder, 'lib');
  const loader = join(library, MACHINES[arch].loader);
  return { folder, library, loader, preload: join(library, 'libpreload.so'), program: join(folder, 'program') };
}

async function buildPreload(arch, musl) {
  const { compiler, glibc } = MACHINES[arch];
  const { library, preload } = placesOf(arch);
  const shared = ['-shared', '-nostdlib'];
  const flags = ['-O1', '-fPIC', '-D_GNU_SOURCE', ...(await muslHeaderFlags(compiler, musl))];
  const source = join(ROOT, 'scripts', 'native', 'musl-runtime.c');
  await run('musl: gcc', compiler, [...shared, ...flags, source, '-lgcc', '-o', preload]);
  // Nothing is taken of it.
  await run('musl: gcc', compiler, [...shared, '-x', 'c', '/dev/null', '-o', join(library, glibc)]);
}

function withoutItsProgram(node) {
  const at = node.indexOf(FUSE);
  if (at < 0) throw new StepError('musl', 'no Node with a program in it');
  node.write('0', at + FUSE.length - 1, 'latin1');
  return node;
}
