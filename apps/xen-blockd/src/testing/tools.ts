import { findTool } from '../tools.js';

/** Debian's package of each program that a test may want. */
const PACKAGE_OF = {
  nbdinfo: 'libnbd-bin',
  nbdcopy: 'libnbd-bin',
  'qemu-img': 'qemu-utils',
  'qemu-storage-daemon': 'qemu-system-common',
  fio: 'fio',
  mke2fs: 'e2fsprogs',
  e2fsck: 'e2fsprogs',
  'xenstore-ls': 'xenstore-utils',
} as const;

type Tool = keyof typeof PACKAGE_OF;

/** For `describe.skipIf`: why a test of these tools cannot run, in its title; empty when it can. */
export function missingTools(...tools: Tool[]): string {
  const missing = tools.filter((tool) => !findTool(tool));
  if (missing.length === 0) return '';
  const packages = [...new Set(missing.map((tool) => PACKAGE_OF[tool]))];
  return ` (needs ${missing.join(', ')}: apt-get install ${packages.join(' ')})`;
}
