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

import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

/** Where programs are looked for: a user's PATH often lacks the file-system tools. */
const DIRECTORIES = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];

/** The path of a program, if it is installed. */
function findTool(name: string): string | undefined {
  return DIRECTORIES.map((directory) => join(directory, name)).find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

export interface ToolOutcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end without blocking this process, which may be serving it. Rejects if it cannot start. */
export function runTool(
  tool: string,
  args: readonly string[],
  options: { env?: NodeJS.ProcessEnv; cwd?: string } = {},
): Promise<ToolOutcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(tool, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      cwd: options.cwd,
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
