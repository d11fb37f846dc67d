import { spawn } from 'node:child_process';

/** A step that ended badly; `output` is what it printed. */
export class StepError extends Error {
  constructor(name, message, output = '') {
    super(`${name}: ${message}`);
    this.output = output;
  }
}

/**
 * Runs a program to its end and resolves with what it printed. With `show` it prints directly instead.
 * Rejects with a StepError when it cannot be started, does not end with 0, or has not ended after `timeoutMs`, when
 * it is killed.
 */
export function run(name, command, args, { cwd, env, show = false, timeoutMs } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd,
      env: { ...process.env, ...env },
      stdio: ['ignore', show ? 'inherit' : 'pipe', show ? 'inherit' : 'pipe'],
    });
    let late = false;
    const timer =
      timeoutMs &&
      setTimeout(() => {
        late = true;
        child.kill('SIGKILL');
        // What it has started may hold them open.
        child.stdout?.destroy();
        child.stderr?.destroy();
      }, timeoutMs);
    const chunks = [];
    child.stdout?.on('data', (chunk) => chunks.push(chunk));
    child.stderr?.on('data', (chunk) => chunks.push(chunk));
    child.on('error', (error) => reject(new StepError(name, `${command} cannot be started: ${error.message}`)));
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      const output = Buffer.concat(chunks).toString();
      if (code === 0) resolve(output);
      else if (late) reject(new StepError(name, `no end after ${timeoutMs / 1000} s`, output));
      else reject(new StepError(name, `${command} ended with ${signal ?? `exit code ${code}`}`, output));
    });
  });
}

export function seconds(since) {
  return `${((performance.now() - since) / 1000).toFixed(1)} s`;
}
