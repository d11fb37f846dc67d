/** Programs in dom0. */
import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';

/** A program that failed: what it was, how it ended and what it printed. */
export class CommandError extends Error {
  constructor(command, code, output) {
    super(`${command}: ${code}\n${output.trim()}`);
    this.code = code;
    this.output = output;
  }
}

/** Runs `command` in a shell; resolves with its output. Errors: CommandError, also after `timeout` seconds. */
export function sh(command, { timeout = 120, env } = {}) {
  return new Promise((resolve, reject) => {
    const stdio = ['ignore', 'pipe', 'pipe'];
    const child = spawn('bash', ['-c', command], { stdio, detached: true, env: { ...process.env, ...env } });
    const chunks = [];
    child.stdout.on('data', (chunk) => chunks.push(chunk));
    child.stderr.on('data', (chunk) => chunks.push(chunk));
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      process.kill(-child.pid, 'SIGKILL');
    }, timeout * 1000);
    // Not `close`: what a daemon inherited of the pipes must not keep us.
    child.on('exit', (code, signal) => {
      clearTimeout(timer);
      setImmediate(() => {
        const output = Buffer.concat(chunks).toString();
        if (code === 0) resolve(output);
        else
          reject(
            new CommandError(command, late ? `not done after ${timeout} s` : (signal ?? `exit code ${code}`), output),
          );
      });
    });
  });
}

/** Calls `condition` until what it gives is true; returns that. Errors: `what` in words after `timeout` seconds. */
export async function until(what, condition, { timeout = 60, every = 0.25 } = {}) {
  const end = performance.now() + timeout * 1000;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (performance.now() > end) throw new Error(`${what}: not within ${timeout} s`);
    await sleep(every * 1000);
  }
}
