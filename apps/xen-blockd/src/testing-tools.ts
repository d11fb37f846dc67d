import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** Debian's package of each program that a test may want. */
const PACKAGE_OF = {
  nbdinfo: 'libnbd-bin',
  nbdcopy: 'libnbd-bin',
  'qemu-img': 'qemu-utils',
  'qemu-io': 'qemu-utils',
  fio: 'fio',
  mke2fs: 'e2fsprogs',
  e2fsck: 'e2fsprogs',
  'xenstore-ls': 'xenstore-utils',
} as const;

export type Tool = keyof typeof PACKAGE_OF;

/** File-system tools are often outside a user's PATH. */
const DIRECTORIES = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];

/** For `describe.skipIf`: why a test of these tools cannot run, in its title; empty when it can. */
export function missingTools(...tools: Tool[]): string {
  const missing = tools.filter((tool) => !DIRECTORIES.some((directory) => existsSync(join(directory, tool))));
  if (missing.length === 0) return '';
  const packages = [...new Set(missing.map((tool) => PACKAGE_OF[tool]))];
  return ` (needs ${missing.join(', ')}: apt-get install ${packages.join(' ')})`;
}

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end without blocking this process, which may be serving it. */
export function runTool(
  tool: string,
  args: readonly string[],
  options: { env?: NodeJS.ProcessEnv } = {},
): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(tool, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...options.env, PATH: DIRECTORIES.join(delimiter) },
    });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk) => {
      stdout += chunk;
    });
    child.stderr.on('data', (chunk) => {
      stderr += chunk;
    });
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
}
