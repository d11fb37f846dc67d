import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';

export interface SmallFileSystem {
  readonly path: string;
  resize(bytes: number): void;
  /** `ro` or `rw`. Fails while a file is open, or mapped, to be written. */
  remount(how: 'ro' | 'rw'): void;
}

/** A file system in memory of this size, until the test has ended. */
export function mountTmpfs(bytes: number): SmallFileSystem {
  const path = mkdtempSync(join(tmpdir(), 'small-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${bytes},mode=700`, 'none', path]);
  onTestFinished(() => {
    execFileSync('umount', ['--lazy', path]);
    rmSync(path, { recursive: true });
  });
  const remount = (options: string) => void execFileSync('mount', ['-o', `remount,${options}`, path]);
  return { path, resize: (to) => remount(`size=${to}`), remount };
}

/** What a test needs that mounts. */
export const mounting = ['mount', { name: 'the right to mount', met: mayMount }] as const;

function mayMount(): boolean {
  const path = mkdtempSync(join(tmpdir(), 'probe-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', 'none', path], { stdio: 'ignore' });
    execFileSync('umount', [path]);
    return true;
  } catch {
    return false;
  } finally {
    rmSync(path, { recursive: true });
  }
}
