/** What the lab needs of the machine it runs on: programs from Debian, and the mirror that they come from. */
import { execFile, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { promisify } from 'node:util';

const execute = promisify(execFile);

/** Something that the machine lacks: `message` says what to do about it. */
export class EnvironmentError extends Error {}

/** A path that each package brings; what exists needs no package. */
const PROGRAMS = {
  debootstrap: '/usr/sbin/debootstrap',
  'busybox-static': '/bin/busybox',
  cpio: '/bin/cpio',
  e2fsprogs: '/sbin/mke2fs',
  'xz-utils': '/usr/bin/xz',
  'debian-archive-keyring': '/usr/share/keyrings/debian-archive-keyring.gpg',
  'qemu-system-x86': '/usr/bin/qemu-system-x86_64',
};

/** Installs what is missing. Errors: EnvironmentError where that cannot be done. */
export async function ensurePrograms(say, { building }) {
  const needed = building ? Object.keys(PROGRAMS) : ['e2fsprogs', 'qemu-system-x86'];
  const missing = needed.filter((name) => !existsSync(PROGRAMS[name]));
  if (missing.length === 0) return;
  const command = `apt-get install --no-install-recommends ${missing.join(' ')}`;
  if (!existsSync('/usr/bin/apt-get')) throw new EnvironmentError(`the Xen lab needs ${missing.join(', ')}`);
  if (process.getuid() !== 0) throw new EnvironmentError(`the Xen lab needs these programs first: sudo ${command}`);
  say(`installing ${missing.join(', ')}`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const retry = ['-q', '-o', 'Acquire::Retries=5'];
  await logged('apt-get', [...retry, 'update'], { env });
  await logged('apt-get', [...retry, 'install', '-y', '--no-install-recommends', ...missing], { env });
}

/** Runs a program whose output matters only when it fails. */
export function logged(command, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
    const chunks = [];
    child.stdout.on('data', (chunk) => chunks.push(chunk));
    child.stderr.on('data', (chunk) => chunks.push(chunk));
    child.on('error', (error) => reject(new EnvironmentError(`${command} cannot be started: ${error.message}`)));
    child.on('close', (code, signal) => {
      const output = Buffer.concat(chunks).toString();
      if (code === 0) return resolve(output);
      const tail = output.trimEnd().split('\n').slice(-20).join('\n');
      reject(new EnvironmentError(`${command} ${args.join(' ')} ended with ${signal ?? code}:\n${tail}`));
    });
  });
}

/** The Debian mirror that this machine's apt uses, or XEN_LAB_MIRROR. */
export function debianMirror() {
  if (process.env.XEN_LAB_MIRROR) return process.env.XEN_LAB_MIRROR;
  const folder = '/etc/apt/sources.list.d';
  const files = [
    '/etc/apt/sources.list',
    ...(existsSync(folder) ? readdirSync(folder).map((f) => `${folder}/${f}`) : []),
  ];
  for (const file of files) {
    if (!/\.(list|sources)$/.test(file) || !existsSync(file)) continue;
    const text = readFileSync(file, 'utf8').replace(/^\s*#.*$/gm, '');
    const found = /(?:^URIs:|^deb\s+(?:\[[^\]]*\]\s+)?).*?(\S+:\S*\/debian)\/?(?=\s|$)/m.exec(text);
    if (found) return found[1];
  }
  throw new EnvironmentError('no Debian mirror in /etc/apt: set XEN_LAB_MIRROR to the address of one');
}

/** What debootstrap's downloader needs of apt's own configuration. */
export async function proxyEnvironment() {
  const { stdout } = await execute('apt-config', ['dump', 'Acquire::http::Proxy']).catch(() => ({ stdout: '' }));
  const proxy = /"(.+)"/.exec(stdout)?.[1];
  return proxy && proxy !== 'DIRECT' ? { http_proxy: proxy } : {};
}
