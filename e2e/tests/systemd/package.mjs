/** What a purge of the package must not leave. */
import { sh } from '../../dom0/shell.mjs';

/** As the kernel knows qemu-storage-daemon. */
export const HELPER = 'qemu-storage-da';

/** Errors: files, processes or units of the package, with their names. */
export async function nothingIsLeft() {
  const left = [
    'ls -d /run/xen-blockd /etc/xen-blockd.toml* /usr/lib/xen-blockd /usr/bin/xen-blockd /etc/xen/scripts/block-xen-blockd 2>/dev/null',
    'find /etc/systemd /usr/lib/systemd /var/lib/systemd -name "*xen-blockd*"',
    'dpkg -S xen-blockd 2>/dev/null',
    `pgrep -ax ${HELPER}`,
    // Not the shell that looks for it.
    'pgrep -af "[x]en-blockd run"',
    'systemctl --failed --no-legend',
  ];
  const found = await sh(`{ ${left.join('; ')}; } || true`);
  if (found.trim() !== '') throw new Error(`left: ${found}`);
}
