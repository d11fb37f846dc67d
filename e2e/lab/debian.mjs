/** What the lab needs of the machine it runs on: programs from Debian, and the mirror that they come from. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { DEBIAN, install } from '../../scripts/lib/debian.mjs';
import { run, StepError } from '../../scripts/lib/steps.mjs';

/** Installs what is missing. Errors: StepError where that cannot be done. */
export function ensurePrograms(say, { building }) {
  const { mke2fs, 'qemu-system-x86_64': qemu } = DEBIAN.lab;
  return install('the Xen lab', building ? DEBIAN.lab : { mke2fs, 'qemu-system-x86_64': qemu }, { say });
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
  throw new StepError('the Xen lab', 'no Debian mirror in /etc/apt: set XEN_LAB_MIRROR to the address of one');
}

/** What debootstrap's downloader needs of apt's own configuration. */
export async function proxyEnvironment() {
  const output = await run('apt', 'apt-config', ['dump', 'Acquire::http::Proxy']).catch(() => '');
  const proxy = /"(.+)"/.exec(output)?.[1];
  return proxy && proxy !== 'DIRECT' ? { http_proxy: proxy } : {};
}
