/** What the lab needs of the machine it runs on: programs from Debian, and the mirror that they come from. */
import { execFile, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { DEBIAN, install } from '../../scripts/lib/debian.mjs';

const execute = promisify(execFile);

/** Something that the machine lacks: `message` says what to do about it. */
export class EnvironmentError extends Error {}

/** Installs what is missing. Errors: StepError where that cannot be done. */
export function ensurePrograms(say, { building }) {
  const { mke2fs, 'qemu-system-x86_64': qemu } = DEBIAN.lab;
  return install('the Xen lab', building ? DEBIAN.lab : { mke2fs, 'qemu-system-x86_64': qemu }, { say });
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
