import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';

/** What the tests want of Debian, by a file that each brings. */
const PACKAGES = {
  'xen-utils-4.17': '/usr/lib/xen-4.17/bin/oxenstored',
  'xenstore-utils': '/usr/bin/xenstore-ls',
  'libxen-dev': '/usr/include/xenctrl.h',
  'python3-pyxs': '/usr/lib/python3/dist-packages/pyxs',
};
const TIMEOUT_MS = 240_000;

/**
 * Before the tests: on a continuous-integration machine (CI=true, root, apt) the genuine daemons and the stock tools are
 * installed. Elsewhere nothing is, and what needs them is skipped and says so.
 */
export default function install(): void {
  if (process.env.CI !== 'true' || process.getuid?.() !== 0 || !existsSync('/usr/bin/apt-get')) return;
  const missing = Object.entries(PACKAGES)
    .filter(([, file]) => !existsSync(file))
    .map(([name]) => name);
  if (missing.length === 0) return;
  try {
    apt('update');
    apt('install', '-y', '--no-install-recommends', ...missing);
  } catch (error) {
    console.warn(`${missing.join(', ')} could not be installed: ${(error as Error).message}`);
  }
}

function apt(...args: string[]): void {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  execFileSync('apt-get', ['-q', ...args], { env, stdio: 'pipe', timeout: TIMEOUT_MS });
}
