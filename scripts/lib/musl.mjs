/**
 * musl beside glibc, for addons that are built and tried on a machine with glibc: the packages musl and musl-dev of Debian,
 * unpacked in .tools. They come through apt, with lists of its own for each processor, so neither root nor a foreign
 * architecture of dpkg is needed.
 */
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { run, StepError } from './steps.mjs';
import { ROOT } from './workspace.mjs';

const FOLDER = join(ROOT, '.tools', 'musl');
const APT = '/usr/bin/apt-get';
const PACKAGES = ['musl', 'musl-dev'];
/** By Node's name: Debian's, and the GNU name's first part. */
const MACHINES = { x64: { debian: 'amd64', cpu: 'x86_64' }, arm64: { debian: 'arm64', cpu: 'aarch64' } };
/** In the order of linking. The compiler's own files that begin and end a library are of glibc. */
export const MUSL_LINKS = ['-nostartfiles', '-nodefaultlibs', '-l:libstdc++.a', '-lgcc', '-l:libc.so'];
/** Of the kernel, which musl does not bring. */
const KERNEL_HEADERS = ['linux', 'asm', 'asm-generic'];

/**
 * `{ arch, headers, library, version }` of musl for an architecture: folders, `library` that of libc.so, and Debian's version.
 * Undefined where it is not unpacked.
 */
export function findMusl(arch) {
  const root = join(FOLDER, arch);
  const stamp = join(root, 'version');
  if (!(arch in MACHINES) || !existsSync(stamp)) return undefined;
  const name = `${MACHINES[arch].cpu}-linux-musl`;
  return {
    arch,
    headers: join(root, 'usr', 'include', name),
    library: join(root, 'lib', name),
    version: readFileSync(stamp, 'utf8').trim(),
  };
}

/** The same, after it has been fetched where it was not there. Errors: StepError, without apt or without its packages. */
export async function fetchMusl(arch) {
  const found = findMusl(arch);
  if (found) return found;
  if (!existsSync(APT)) throw new StepError('musl', `needs ${PACKAGES.join(' and ')} of Debian, and there is no apt`);
  const root = join(FOLDER, arch);
  rmSync(root, { recursive: true, force: true });
  const apt = join(root, 'apt');
  for (const folder of ['state/lists/partial', 'cache/archives/partial'])
    mkdirSync(join(apt, folder), { recursive: true });
  writeFileSync(join(apt, 'status'), '');
  const { debian } = MACHINES[arch];
  const settings = {
    'APT::Architecture': debian,
    'APT::Architectures': debian,
    'APT::Sandbox::User': 'root',
    'Acquire::Languages': 'none',
    'Acquire::Retries': '5',
    'Dir::State': join(apt, 'state'),
    'Dir::State::status': join(apt, 'status'),
    'Dir::Cache': join(apt, 'cache'),
  };
  const options = Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  await run('musl: apt', APT, ['-q', ...options, 'update'], { cwd: apt });
  await run('musl: apt', APT, ['-q', ...options, 'download', ...PACKAGES], { cwd: apt });
  const archives = readdirSync(apt).filter((name) => name.endsWith('.deb'));
  for (const name of archives) await run('musl: unpack', 'dpkg-deb', ['-x', join(apt, name), root]);
  const [version] = archives.map((name) => name.split('_')[1]);
  rmSync(apt, { recursive: true });
  writeFileSync(join(root, 'version'), `${version}\n`);
  return findMusl(arch);
}

/** What makes a g++ for glibc compile for musl: `{ compile, link }`. Its C++ headers stay, its C headers do not. */
export async function muslFlags(compiler, musl) {
  return {
    compile: ['-nostdinc++', ...(await muslHeaderFlags(compiler, musl, 'c++'))],
    link: [`-L${musl.library}`, ...MUSL_LINKS],
  };
}

/** The headers of musl for a compiler of `c` or `c++`, among the compiler's own, and the kernel's. */
export async function muslHeaderFlags(compiler, musl, language = 'c') {
  const folders = await systemFolders(compiler, language);
  const ofCompiler = folders.filter((folder) => /\/c\+\+(\/|$)|\/gcc(-cross)?\/[^/]+\/[^/]+\/include$/.test(folder));
  const includes = [...ofCompiler, musl.headers, kernelHeaders(musl, folders)];
  return ['-nostdinc', ...includes.flatMap((folder) => ['-isystem', folder])];
}

/** Where a compiler looks for <...>, in this order. */
async function systemFolders(compiler, language) {
  const tell = '"$0" -E -v -x "$1" /dev/null 2>&1';
  const told = await run('compiler', 'sh', ['-c', tell, compiler, language], { env: { LC_ALL: 'C' } });
  const [, listed] = /#include <\.\.\.> search starts here:\n(.*?)End of search list/s.exec(told) ?? [];
  if (listed === undefined) throw new StepError('musl', `${compiler} does not tell its include folders`, told);
  return listed
    .split('\n')
    .map((line) => line.trim())
    .filter((folder) => folder !== '' && existsSync(folder))
    .map((folder) => realpathSync(folder));
}

/** A folder with the kernel's headers alone: those of glibc lie beside them. */
function kernelHeaders(musl, folders) {
  const folder = join(FOLDER, musl.arch, 'kernel');
  mkdirSync(folder, { recursive: true });
  for (const name of KERNEL_HEADERS) {
    const link = join(folder, name);
    if (existsSync(link)) continue;
    const place = folders.find((one) => existsSync(join(one, name)));
    if (place === undefined) throw new StepError('musl', `no <${name}/...> in ${folders.join(', ')}`);
    rmSync(link, { force: true });
    symlinkSync(join(place, name), link);
  }
  return folder;
}
