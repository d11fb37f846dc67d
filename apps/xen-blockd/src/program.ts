import { setFlagsFromString } from 'node:v8';
import { runCommandLine } from './cli/command-line.js';
import { ExitCode } from './errors.js';

/** How long handles that nobody closed keep the process after its work has ended. */
const EXIT_TIMEOUT_MS = 1000;

/** The whole program; what it ends with is in `process.exitCode`. */
export async function main(): Promise<void> {
  process.stdout.on('error', stdoutFailed);
  // There is no third place to tell it. The daemon's log counts its own lost lines.
  process.stderr.on('error', () => {});
  // Machine code from the first call on: after an upgrade guests wait for a program that has not run yet.
  setFlagsFromString('--always-sparkplug');
  const code = await runCommandLine(process.argv.slice(2));
  process.exitCode ??= code;
  setTimeout(() => process.exit(), EXIT_TIMEOUT_MS).unref();
}

/** A reader of our output may stop reading (`| head`): work in flight still comes to its clean end. */
function stdoutFailed({ code, message }: NodeJS.ErrnoException): void {
  if (code === 'EPIPE') return;
  process.stderr.write(`xen-blockd: standard output: ${message}\n`);
  process.exitCode = ExitCode.failure;
}
