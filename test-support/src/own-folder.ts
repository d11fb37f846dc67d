import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';

/**
 * A new folder below `parent` whose name says that it is this process's. Folders of that name whose processes are gone
 * are removed, with the processes that serve from them: a test that was cut off could not do that.
 */
export function ownFolder(parent: string, name: string): string {
  const left = new RegExp(`^${name}-(\\d+)-\\w{6}$`);
  for (const found of readdirSync(parent)) {
    const pid = Number(left.exec(found)?.[1] ?? process.pid);
    if (pid === process.pid || isAlive(pid)) continue;
    const folder = join(parent, found);
    endProcessesOf(folder);
    rmSync(folder, { recursive: true, force: true });
  }
  return mkdtempSync(join(parent, `${name}-${process.pid}-`));
}

/** Kills the processes that have a path in or below a folder in their command lines, but for this one. */
export function endProcessesOf(folder: string): void {
  for (const pid of readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)) {
    if (pid === process.pid || !has(pid, folder)) continue;
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It has ended.
    }
  }
}

function has(pid: number, folder: string): boolean {
  try {
    const text = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
    return text.includes(`${folder}/`) || text.includes(`${folder}\0`);
  } catch {
    return false;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
