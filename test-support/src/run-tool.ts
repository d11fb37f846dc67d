import { execFile } from 'node:child_process';

/** How a program ended: its exit code, and all that it wrote. */
export interface ToolOutcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end without blocking this process, which may be serving it. Rejects if it cannot start. */
export function runTool(tool: string, args: readonly string[], options: { cwd?: string } = {}): Promise<ToolOutcome> {
  return new Promise((resolve, reject) => {
    execFile(tool, args, { ...options, maxBuffer: 1 << 26 }, (error, stdout, stderr) => {
      if (error && typeof error.code !== 'number') reject(error);
      else resolve({ code: Number(error?.code ?? 0), stdout, stderr });
    });
  });
}
