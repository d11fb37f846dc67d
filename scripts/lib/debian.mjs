/** Programs and files from Debian: which are missing, and installing them. test-support/debian-packages.json says where they are. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { run, StepError } from './steps.mjs';
import { ROOT } from './workspace.mjs';

/**
 * By purpose (`tests`; `networkStorage`: what `npm run test:ceph` needs besides; `toBuild`: what tests need of the
 * workspace's own build; `native`: what `npm run test:native` needs; `lab`) and name: the package, and the
 * file that it brings where that is no program in PATH.
 */
export const DEBIAN = JSON.parse(readFileSync(join(ROOT, 'test-support', 'debian-packages.json'), 'utf8'));

const APT = '/usr/bin/apt-get';
const OPTIONS = ['-q', '-o', 'Acquire::Retries=5'];

/** The packages for what is not there of these entries; with a `*` where apt does not say more. */
function missingPackages(entries) {
  const missing = Object.entries(entries).filter(([name, { file }]) => !exists(name, file));
  return [...new Set(missing.map(([, entry]) => newest(entry.package)))].sort();
}

function exists(name, file) {
  if (file) return existsPattern(file);
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  return folders.some((folder) => existsSync(join(folder, name)));
}

function existsPattern(path) {
  const [, folder, name, rest] = /^(.*?)\/([^/]*\*)(.*)$/.exec(path) ?? [];
  if (folder === undefined) return existsSync(path);
  const names = existsSync(folder) ? readdirSync(folder) : [];
  return names.some((one) => one.startsWith(name.slice(0, -1)) && existsSync(join(folder, one + rest)));
}

/** Of a pattern such as `xen-utils-*`, the newest version that apt knows. */
export function newest(pattern) {
  if (!pattern.endsWith('*')) return pattern;
  const prefix = pattern.slice(0, -1);
  return (
    knownPackages(prefix)
      .filter((name) => /^[\d.]+$/.test(name.slice(prefix.length)))
      .sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))
      .at(-1) ?? pattern
  );
}

/** False where apt says that there is no such package. */
export function isKnown(name) {
  const known = knownPackages(name);
  return known.length === 0 ? knownPackages('apt').length === 0 : known.includes(name);
}

function knownPackages(prefix) {
  try {
    return execFileSync('apt-cache', ['pkgnames', prefix], { encoding: 'utf8', stdio: 'pipe' })
      .split('\n')
      .filter(Boolean);
  } catch {
    return [];
  }
}

/** The command that a user may type. */
export function installCommand(packages) {
  return `apt-get install --no-install-recommends ${packages.join(' ')}`;
}

/**
 * Installs what is missing of these entries; resolves with the packages. What apt does not know is left out, unless
 * `all` must be there. Errors: StepError, with what to do.
 */
export async function install(purpose, entries, { say = () => {}, all = true } = {}) {
  const missing = missingPackages(entries);
  if (missing.length === 0) return [];
  if (!existsSync(APT)) throw new StepError(purpose, `needs of Debian: ${missing.join(', ')}`);
  if (process.getuid() !== 0) throw new StepError(purpose, `not root; first: sudo ${installCommand(missing)}`);
  await apt(purpose, 'update');
  // Only now apt may know the newest.
  const packages = missingPackages(entries).filter((name) => all || isKnown(name));
  say(`installing ${packages.join(', ')}`);
  if (packages.length > 0) await apt(purpose, 'install', '-y', '--no-install-recommends', ...packages);
  return packages;
}

function apt(purpose, ...args) {
  return run(purpose, APT, [...OPTIONS, ...args], { env: { DEBIAN_FRONTEND: 'noninteractive' } });
}
