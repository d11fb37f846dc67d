import { readdir, readFile } from 'node:fs/promises';
import type { StorageId } from './storage-id.js';

/** What mounts a block device: `mounted on /srv`; or undefined. */
export async function mountOf({ device }: StorageId): Promise<string | undefined> {
  if (device === undefined) return undefined;
  const table = await readFile('/proc/self/mountinfo', 'utf8').catch(() => '');
  for (const line of table.split('\n')) {
    const [, , numbers, , place] = line.split(' ');
    if (numbers === device) return `mounted on ${place}`;
  }
  return undefined;
}

/**
 * The process that locks a file, as far as /proc tells: `qemu-nbd (pid 4711)`; or undefined. The kernel names no
 * process for a lock of an open file description, so each process's descriptors are looked at; other users' are hidden.
 * With `byte`, only locks of that byte count.
 */
export async function lockerOf({ inode }: StorageId, byte?: number): Promise<string | undefined> {
  for (const pid of await readdir('/proc').catch(() => [])) {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue;
    for (const fd of await readdir(`/proc/${pid}/fdinfo`).catch(() => [])) {
      const info = await readFile(`/proc/${pid}/fdinfo/${fd}`, 'latin1').catch(() => '');
      if (!hasLock(info, inode, byte)) continue;
      const name = await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => 'a program');
      return `${name.trim()} (pid ${pid})`;
    }
  }
  return undefined;
}

/** `lock: 1: OFDLCK ADVISORY READ -1 fe:01:4711 100 100`: device numbers in hexadecimal, then the inode. */
function hasLock(info: string, inode: string, byte: number | undefined): boolean {
  return info.split('\n').some((line) => {
    const words = line.split(/\s+/);
    const at = words.indexOf(inode);
    return words[0] === 'lock:' && at > 0 && (byte === undefined || words[at + 1] === String(byte));
  });
}
