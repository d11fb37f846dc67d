import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { commandLine, namesIn, processIds } from '../../proc.js';
import { type Finding, good, missing, note, textOf } from './finding.js';

const BLACKLIST = "echo 'blacklist xen-blkback' > /etc/modprobe.d/xen-blockd.conf";
const MODPROBE_FOLDERS = ['etc/modprobe.d', 'run/modprobe.d', 'usr/lib/modprobe.d', 'lib/modprobe.d'];

/**
 * Others that would serve disks of the `types` that the daemon serves. `root`: where /sys and /etc are; `domid` of this domain,
 * if it is known.
 */
export function checkCompetitors(types: readonly string[], domid: number | undefined, root = '/'): Finding[] {
  return [blkback(types, root), tapback(types), devd(types), qemu(types, domid)];
}

/** Serves type vbd. udev loads it as soon as a disk of that type appears. */
function blkback(types: readonly string[], root: string): Finding {
  const name = 'xen-blkback';
  const loaded = existsSync(join(root, 'sys/module/xen_blkback'));
  if (loaded && types.includes('vbd')) {
    return missing(name, 'loaded: it takes the disks of type vbd', `${BLACKLIST}; modprobe -r xen-blkback`);
  }
  if (loaded) return good(name, 'loaded; it serves type vbd, which this daemon does not');
  if (!types.includes('vbd') || isBlacklisted(root)) return good(name, 'not loaded');
  return note(name, 'not loaded, and nothing keeps udev from loading it with the first disk of type vbd', BLACKLIST);
}

function isBlacklisted(root: string): boolean {
  const files = MODPROBE_FOLDERS.flatMap((folder) =>
    namesIn(join(root, folder))
      .filter((file) => file.endsWith('.conf'))
      .map((file) => join(folder, file)),
  );
  const rule = /^\s*(blacklist\s+xen[-_]blkback\s*$|install\s+xen[-_]blkback\s+\S*\/(true|false)\b)/m;
  return files.some((file) => rule.test(textOf(root, file) ?? ''));
}

/** Serves type vbd3 by blktap. */
function tapback(types: readonly string[]): Finding {
  const pid = types.includes('vbd3') ? processOf(([program = '']) => /(^|\/)tapback$/.test(program)) : undefined;
  if (pid === undefined) return good('tapback', 'not in the way');
  return missing('tapback', `pid ${pid} takes the disks of type vbd3`, `stop it, and what starts it: kill ${pid}`);
}

/** Starts a QEMU for disks of type qdisk in a driver domain. */
function devd(types: readonly string[]): Finding {
  const isDevd = (words: readonly string[]) =>
    words.some((word, i) => /(^|\/)xl$/.test(word) && words[i + 1] === 'devd');
  const pid = types.includes('qdisk') ? processOf(isDevd) : undefined;
  if (pid === undefined) return good('xl devd', 'not in the way');
  return missing(
    'xl devd',
    `pid ${pid} starts a QEMU for disks of type qdisk`,
    'systemctl disable --now xendriverdomain',
  );
}

/** In dom0 a guest's QEMU serves its disks of type qdisk. */
function qemu(types: readonly string[], domid: number | undefined): Finding {
  const isQemu = ([program = '', ...words]: readonly string[]) =>
    /(^|\/)qemu-system-[^/]+$/.test(program) && words.includes('-xen-domid');
  const pid = types.includes('qdisk') && domid === 0 ? processOf(isQemu) : undefined;
  if (pid === undefined) return good('QEMU', 'not in the way');
  return note(
    'QEMU',
    `pid ${pid} serves disks of type qdisk of its guest, as this daemon would`,
    'give the guests of a QEMU no disks of backendtype=qdisk: way B or C, or device_model_override, see docs/operations.md',
  );
}

function processOf(isSuch: (words: readonly string[]) => boolean): number | undefined {
  return processIds().find((pid) => isSuch(commandLine(pid)));
}
