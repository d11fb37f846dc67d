/** The run's disk: what changes from run to run, so that the lab itself need not. Every domain sees it at /lab. */
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { buildDeb } from '../../scripts/deb/build.mjs';
import { checkVersion, packageVersion, sourceDate } from '../../scripts/deb/version.mjs';
import { run } from '../../scripts/lib/steps.mjs';
import { ROOT } from '../../scripts/lib/workspace.mjs';
import { buildFloor } from '../bench/floor/build.mjs';

const E2E = join(ROOT, 'e2e');
/** The first processes of dom0, driver domains and guests, and their agent. */
const INIT = join(E2E, 'machine', 'init');
/** A release after all others. */
const NEWER = '99.0.0';
/** Of the workspace's packages, only what is published and the addons. */
const PUBLISHED = ['package.json', 'dist', 'prebuilds', 'scripts', 'hotplug'];

/** Makes `folder`/run.img for one run of `lab`; `program` goes to /lab/run.json. */
export async function packRun(lab, folder, program) {
  const root = join(folder, 'run');
  for (const name of ['bin', 'boot']) mkdirSync(join(root, name), { recursive: true });
  cpSync(realpathSync(process.execPath), join(root, 'bin', 'node'));
  for (const name of ['dom0', 'tests', 'bench']) cpSync(join(E2E, name), join(root, 'e2e', name), { recursive: true });
  cpSync(INIT, join(root, 'init'), { recursive: true });
  const done = new Set();
  for (const name of ['apps/xen-blockd', 'examples']) copyProgram(join(ROOT, name), join(root, 'repo'), done);
  writeFileSync(join(root, 'run.json'), JSON.stringify(program));
  await packGuests(lab, folder, join(root, 'boot'));
  if (program.program === 'bench') await buildFloor(join(root, 'bin', 'floor'));
  if (program.init === 'systemd') await packDeb(root);
  const image = join(folder, 'run.img');
  const size = Number((await run('du', 'du', ['-sm', root])).split('\t')[0]);
  const options = ['-q', '-t', 'ext4', '-O', '^has_journal', '-m', '0', '-E', 'root_owner=0:0'];
  await run('run disk', 'mke2fs', [...options, '-d', root, image, `${Math.ceil(size * 1.1) + 32}M`]);
  return image;
}

/** The package for Debian, as /lab/xen-blockd.deb, and one of a later release, as /lab/newer.deb; and what operators read. */
async function packDeb(root) {
  mkdirSync(join(root, 'docs'));
  cpSync(join(ROOT, 'docs', 'operations.md'), join(root, 'docs', 'operations.md'));
  const date = await sourceDate();
  const version = checkVersion(await packageVersion(date));
  const { path } = await buildDeb({ out: root, architecture: process.arch, version, date, withNode: false });
  renameSync(path, join(root, 'xen-blockd.deb'));
  await packNewer(join(root, 'xen-blockd.deb'), join(root, 'newer.deb'), version);
}

/** The same program, which says of itself that it is a later release. */
async function packNewer(from, to, version) {
  const folder = `${to}.d`;
  await run('the newer package', 'dpkg-deb', ['-R', from, folder]);
  const manifest = join(folder, 'usr', 'lib', 'xen-blockd', 'package.json');
  const program = { ...JSON.parse(readFileSync(manifest, 'utf8')), version: NEWER };
  writeFileSync(manifest, `${JSON.stringify(program, null, 2)}\n`);
  const control = join(folder, 'DEBIAN', 'control');
  writeFileSync(control, readFileSync(control, 'utf8').replace(`Version: ${version}`, `Version: ${NEWER}`));
  const sums = join(folder, 'DEBIAN', 'md5sums');
  const sum = createHash('md5').update(readFileSync(manifest)).digest('hex');
  const line = /^\w+(?= +usr\/lib\/xen-blockd\/package\.json$)/m;
  writeFileSync(sums, readFileSync(sums, 'utf8').replace(line, sum));
  await run('the newer package', 'dpkg-deb', ['--root-owner-group', '-Zxz', '-z1', '--build', folder, to]);
  rmSync(folder, { recursive: true });
}

/** Kernels and initrds of the domains that dom0 starts, each initrd with its own first process. */
async function packGuests(lab, folder, boot) {
  const init = join(folder, 'guest-init');
  mkdirSync(init, { recursive: true });
  cpSync(join(INIT, 'guest'), join(init, 'init'));
  cpSync(join(INIT, 'agent'), join(init, 'agent'));
  await archive(init, join(folder, 'guest-init.cpio'));
  const parts = (names) => Buffer.concat(names.map((name) => readFileSync(name)));
  const guest = join(lab, 'guest.initrd');
  const own = join(folder, 'guest-init.cpio');
  writeFileSync(join(boot, 'guest.initrd'), parts([guest, own]));
  writeFileSync(join(boot, 'guest-fio.initrd'), parts([guest, join(lab, 'fio.initrd'), own]));
  writeFileSync(join(boot, 'domain.initrd'), await domainInitrd(lab, folder));
  for (const name of ['vmlinuz', 'grub-pvh', 'versions']) cpSync(join(lab, name), join(boot, name));
}

/** The initrd of dom0 and of driver domains. */
export async function domainInitrd(lab, folder) {
  const init = join(folder, 'domain-init');
  mkdirSync(init, { recursive: true });
  cpSync(join(INIT, 'initrd'), join(init, 'init'));
  await archive(init, join(folder, 'domain-init.cpio'));
  return Buffer.concat([readFileSync(join(lab, 'boot.initrd')), readFileSync(join(folder, 'domain-init.cpio'))]);
}

function archive(folder, file) {
  return run('initrd', 'sh', ['-c', `find . | cpio -o -H newc --quiet >"$0"`, file], { cwd: folder });
}

/**
 * Copies a package of the workspace with all that it needs at run time, at the same paths relative to the root,
 * so that pnpm's symbolic links go on working.
 */
function copyProgram(folder, target, done) {
  if (done.has(folder)) return;
  done.add(folder);
  const to = join(target, relative(ROOT, folder));
  const ours = !folder.includes('/node_modules/');
  for (const name of ours ? PUBLISHED : readdirSync(folder)) {
    if (name === 'node_modules' || !existsSync(join(folder, name))) continue;
    cpSync(join(folder, name), join(to, name), { recursive: true, filter: (path) => !/\.(map|d\.c?ts)$/.test(path) });
  }
  if (ours) copyAddons(folder, to);
  const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  for (const name of Object.keys({ ...manifest.dependencies, ...manifest.optionalDependencies })) {
    const link = findDependency(folder, name);
    if (!link) continue;
    copyLink(link, join(target, relative(ROOT, link)));
    copyProgram(realpathSync(link), target, done);
  }
}

/** pnpm's links are relative. (cpSync copies what a link points to, on some releases of Node.) */
function copyLink(link, to) {
  if (existsSync(to)) return;
  mkdirSync(dirname(to), { recursive: true });
  symlinkSync(readlinkSync(link), to);
}

/** What node-gyp built here, where no prebuild is. */
function copyAddons(folder, to) {
  const built = join(folder, 'build', 'Release');
  if (!existsSync(built)) return;
  for (const name of readdirSync(built).filter((file) => file.endsWith('.node'))) {
    mkdirSync(join(to, 'build', 'Release'), { recursive: true });
    cpSync(join(built, name), join(to, 'build', 'Release', name));
  }
}

/** The symbolic link by which the package in `folder` finds its dependency `name`. */
function findDependency(folder, name) {
  for (let at = folder; at.startsWith(ROOT); at = dirname(at)) {
    const link = join(at, 'node_modules', name);
    if (existsSync(link) && lstatSync(link).isSymbolicLink()) return link;
    const sibling = join(at, name);
    if (at.endsWith('node_modules') && existsSync(sibling) && lstatSync(sibling).isSymbolicLink()) return sibling;
  }
  return undefined;
}
