import { setFlagsFromString } from 'node:v8';
import { runCommandLine } from './cli/command-line.js';
import type { CachedProgram } from './code-cache.js';
import { ExitCode } from './errors.js';

type ProgramCode = Pick<CachedProgram<unknown>, 'works' | 'keep'>;

/** How long after the start of serving the compiled code is kept: by then most of what is used was compiled. */
const KEEP_CODE_MS = 5000;

/** How long handles that nobody closed keep the process after its work has ended. */
const EXIT_TIMEOUT_MS = 1000;

/** The whole program, whose code is `code`; what it ends with is in `process.exitCode`. */
export async function main(code: ProgramCode): Promise<void> {
  process.stdout.on('error', stdoutFailed);
  // There is no third place to tell it. The daemon's log counts its own lost lines.
  process.stderr.on('error', () => {});
  const exitCode = await runCommandLine(process.argv.slice(2), () => ready(code));
  process.exitCode ??= exitCode;
  setTimeout(() => process.exit(), EXIT_TIMEOUT_MS).unref();
}

/**
 * Machine code from the first call on, for what serves requests: without it reads of a fresh daemon are half as quick for
 * minutes. It is not worth its time for what is called once, before. Keeping the code takes some 10 ms, once after a boot
 * or an upgrade; V8 refuses it where its flags are not as they were.
 */
function ready(code: ProgramCode): void {
  code.works();
  setFlagsFromString('--always-sparkplug');
  setTimeout(() => {
    setFlagsFromString('--no-always-sparkplug');
    code.keep();
    setFlagsFromString('--always-sparkplug');
  }, KEEP_CODE_MS).unref();
}

/** A reader of our output may stop reading (`| head`): work in flight still comes to its clean end. */
function stdoutFailed({ code, message }: NodeJS.ErrnoException): void {
  if (code === 'EPIPE') return;
  process.stderr.write(`xen-blockd: standard output: ${message}\n`);
  process.exitCode = ExitCode.failure;
}
