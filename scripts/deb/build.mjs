/** Puts the package together. The same tree gives the same bytes: everything is sorted, and has the commit's time. */
import {
  chmodSync,
  copyFileSync,
  existsSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { run, StepError } from '../lib/steps.mjs';
import { ROOT } from '../lib/workspace.mjs';
import { changelog, controlFile, copyrightFile, md5sums } from './metadata.mjs';
import { copyNode, neededLibraries } from './node.mjs';
import { writeProgram } from './program.mjs';

const APP = join(ROOT, 'apps', 'xen-blockd');
const PACKAGING = join(ROOT, 'packaging');
const DEBIAN = join(PACKAGING, 'debian');
/** Debian's name of a machine, by Node's. */
export const ARCHITECTURES = { x64: 'amd64', arm64: 'arm64' };
const LIBRARY = 'usr/lib/xen-blockd';
const DOC = 'usr/share/doc/xen-blockd';
/** What device_model_override names. */
const DEVICE_MODEL = `${LIBRARY}/device-model`;
/** Where each shell looks. */
const COMPLETIONS = {
  bash: 'usr/share/bash-completion/completions/xen-blockd',
  zsh: 'usr/share/zsh/vendor-completions/_xen-blockd',
  fish: 'usr/share/fish/vendor_completions.d/xen-blockd.fish',
};
/** For what else watches the machine, below usr/share/xen-blockd and the folder of their sources. */
const SHARED = ['prometheus/xen-blockd.rules.yml', 'grafana/xen-blockd.json'];
const MAINTAINER_SCRIPTS = ['postinst', 'prerm', 'postrm'];

/** What an operator may change: dpkg asks before it replaces a changed one. */
const CONFIGURATION = {
  'etc/xen-blockd.toml': [join(APP, 'config', 'xen-blockd.toml'), 0o644],
  'etc/xen/scripts/block-xen-blockd': [join(APP, 'hotplug', 'block-xen-blockd'), 0o755],
};

/**
 * Writes the package into the folder `out`. `architecture` is Node's name of the machine that it is for. Resolves with
 * `path`, `version`, `architecture` (Debian's name), `bytes`, `installedKib`, `depends` and `files`.
 */
export async function buildDeb({ out, architecture, version, date, withNode }) {
  mkdirSync(join(ROOT, '.tools'), { recursive: true });
  const root = mkdtempSync(join(ROOT, '.tools', 'deb-'));
  try {
    const { depends } = await fill(root, { architecture, version, date, withNode });
    const files = filesOf(root);
    const installedKib = Math.ceil(files.reduce((sum, path) => sum + blocks(join(root, path)), 0));
    const facts = { version, architecture: ARCHITECTURES[architecture], depends, installedKib };
    writeMetadata(root, files, facts);
    settle(root, date);
    mkdirSync(out, { recursive: true });
    const path = join(out, `xen-blockd_${version.replace(/^\d+:/, '')}_${facts.architecture}.deb`);
    await pack(root, path, date);
    return { path, ...facts, bytes: statSync(path).size, files: files.map((file) => `/${file}`) };
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

async function fill(root, { architecture, version, date, withNode }) {
  const put = (path, text) => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  };
  const copy = (path, from) => put(path, readFileSync(from));
  const library = join(root, LIBRARY);
  const interpreter = withNode ? `/${LIBRARY}/bin/node` : '/usr/bin/node';
  const libraries = await writeProgram(library, { architecture, interpreter });
  const licence = withNode ? await copyNode(join(library, 'bin', 'node'), architecture) : undefined;
  mkdirSync(join(root, 'usr', 'bin'), { recursive: true });
  symlinkSync('../lib/xen-blockd/dist/main.js', join(root, 'usr', 'bin', 'xen-blockd'));
  for (const [path, [from]] of Object.entries(CONFIGURATION)) copy(path, from);
  copy(DEVICE_MODEL, join(APP, 'hotplug', 'device-model'));
  copy('usr/lib/systemd/system/xen-blockd.service', join(APP, 'systemd', 'xen-blockd.service'));
  put('usr/share/man/man8/xen-blockd.8.gz', compressed(readFileSync(join(APP, 'man', 'xen-blockd.8'))));
  put(`${DOC}/changelog.gz`, compressed(changelog({ version, date })));
  put(`${DOC}/copyright`, copyrightFile(libraries, licence));
  copy(`${DOC}/README.Debian`, join(DEBIAN, 'README.Debian'));
  copy(`${DOC}/examples/modprobe-xen-blkback.conf`, join(DEBIAN, 'modprobe-xen-blkback.conf'));
  copy(`${DOC}/examples/hardened.conf`, join(APP, 'systemd', 'hardened.conf'));
  for (const path of SHARED) copy(`usr/share/xen-blockd/${path}`, join(PACKAGING, path));
  if (withNode) copy('usr/share/lintian/overrides/xen-blockd', join(DEBIAN, 'lintian-overrides'));
  for (const [shell, path] of Object.entries(COMPLETIONS)) {
    put(path, await run('deb: completions', process.execPath, [join(library, 'dist', 'main.js'), 'completion', shell]));
  }
  return { depends: dependencies(root, withNode) };
}

const compressed = (content) => gzipSync(content, { level: 9 });

function dependencies(root, withNode) {
  const objects = filesOf(root).filter((path) => /\.node$|\/bin\/node$/.test(path));
  const least = new Map();
  for (const [name, version] of objects.flatMap((path) => neededLibraries(join(root, path)))) {
    const known = least.get(name);
    if (!known || known.localeCompare(version, 'en', { numeric: true }) < 0) least.set(name, version);
  }
  const libraries = [...least].sort().map(([name, version]) => `${name} (>= ${version})`);
  return [...libraries, ...(withNode ? ['libgcc-s1'] : ['nodejs (>= 20)']), 'init-system-helpers (>= 1.52)'];
}

function writeMetadata(root, files, facts) {
  const folder = join(root, 'DEBIAN');
  mkdirSync(folder);
  const conffiles = Object.keys(CONFIGURATION);
  writeFileSync(join(folder, 'control'), controlFile(facts));
  writeFileSync(join(folder, 'conffiles'), conffiles.map((path) => `/${path}\n`).join(''));
  const summed = files.filter((path) => !conffiles.includes(path) && !lstatSync(join(root, path)).isSymbolicLink());
  writeFileSync(join(folder, 'md5sums'), md5sums(root, summed));
  for (const name of MAINTAINER_SCRIPTS) copyFileSync(join(DEBIAN, name), join(folder, name));
}

/** Paths of files and symbolic links below a folder, sorted. */
function filesOf(root, folder = '') {
  return readdirSync(join(root, folder), { withFileTypes: true })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
      return entry.isDirectory() ? filesOf(root, path) : [path];
    });
}

const blocks = (path) => Math.ceil(lstatSync(path).size / 1024);

/** Modes and times do not depend on who builds, nor when. */
function settle(root, date, folder = '') {
  for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
    const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
    if (entry.isDirectory()) settle(root, date, path);
    else if (!entry.isSymbolicLink()) chmodSync(join(root, path), modeOf(root, path));
    lutimesSync(join(root, path), date, date);
  }
  chmodSync(join(root, folder), 0o755);
  lutimesSync(join(root, folder), date, date);
}

function modeOf(root, path) {
  if (path.startsWith('DEBIAN/')) return MAINTAINER_SCRIPTS.includes(path.slice(7)) ? 0o755 : 0o644;
  if (path in CONFIGURATION) return CONFIGURATION[path][1];
  if (path === `${LIBRARY}/bin/node` || path === DEVICE_MODEL) return 0o755;
  return path.endsWith('.js') && readFileSync(join(root, path), 'latin1').startsWith('#!') ? 0o755 : 0o644;
}

async function pack(root, path, date) {
  if (!existsSync('/usr/bin/dpkg-deb')) throw new StepError('deb', 'needs dpkg-deb (Debian: package dpkg)');
  // More threads cut the data into other blocks.
  const env = { SOURCE_DATE_EPOCH: String(date), DPKG_DEB_THREADS_MAX: '1' };
  await run('deb', 'dpkg-deb', ['--root-owner-group', '-Zxz', '-z6', '--build', root, path], { env });
}
