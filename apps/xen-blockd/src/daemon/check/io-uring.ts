import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openFileImage } from '@xenpv/blockdev';
import { type Finding, good, missing, note, textOf } from './finding.js';

const NAME = 'io_uring';

/**
 * The storage engine of files and block devices. `engine` as configured; `attempt` rejects where io_uring does not work; `root`:
 * where /proc is.
 */
export async function checkIoUring(engine: string, attempt = openWithIoUring, root = '/'): Promise<Finding> {
  try {
    await attempt();
    return good(NAME, 'works');
  } catch (error) {
    const { message } = error as Error;
    const disabled = Number(textOf(root, 'proc/sys/kernel/io_uring_disabled') ?? 0);
    const remedy =
      disabled > 0
        ? 'sysctl -w kernel.io_uring_disabled=0 (and a file in /etc/sysctl.d)'
        : 'a kernel of 5.10 or later, and no filter of system calls that forbids it; or engine = "threads"';
    if (engine === 'io_uring') return missing(NAME, `${message}; the configuration says engine = "io_uring"`, remedy);
    if (engine !== 'auto') return good(NAME, `does not work here, and engine = "${engine}" does not need it`);
    return note(NAME, `${message}; threads do its work, more slowly`, remedy);
  }
}

async function openWithIoUring(): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'xen-blockd-check-'));
  try {
    const path = join(directory, 'image');
    writeFileSync(path, Buffer.alloc(4096));
    const image = await openFileImage(path, { engine: 'io_uring', readOnly: true, direct: false });
    await image.close();
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
