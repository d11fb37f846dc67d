/** What the programs of this repository share: arguments, progress and errors. */
import { parseArgs } from 'node:util';
import { StepError } from './steps.mjs';

/**
 * What parseArgs of node:util makes of this program's arguments. `--help` prints the usage and ends the process with
 * 0; wrong arguments print it too and end it with 2.
 * @param {string} usage
 * @param {Readonly<Record<string, object>>} options
 * @returns {{ values: Record<string, any>, positionals: string[] }}
 */
export function readArguments(usage, options, { positionals = false } = {}) {
  const all = { ...options, help: { type: 'boolean', short: 'h' } };
  let found;
  try {
    found = parseArgs({ options: all, allowPositionals: positionals });
  } catch (error) {
    usageError(usage, error.message);
  }
  if (!found.values.help) return found;
  process.stdout.write(usage);
  process.exit(0);
}

/**
 * Ends the process with 2.
 * @param {string} usage
 * @param {string} message
 * @returns {never}
 */
export function usageError(usage, message) {
  process.stderr.write(`${message}\n\n${usage}`);
  process.exit(2);
}

/** Runs `main`, and turns a StepError into its output, one line and exit code 1. */
export async function runMain(main) {
  try {
    await main();
  } catch (error) {
    if (!(error instanceof StepError)) throw error;
    process.stderr.write(`${error.output}\n${error.message}\n`);
    process.exitCode = 1;
  }
}

/** Progress goes to standard error, so that standard output stays the program's own. */
export function sayOnStderr(text) {
  process.stderr.write(`xen-blockd: ${text}\n`);
}
