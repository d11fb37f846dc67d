import { parseArgs } from 'node:util';

/**
 * What parseArgs of node:util makes of this program's arguments. `--help` prints the usage and ends the process with
 * 0; wrong arguments print it too and end it with 2.
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

function usageError(usage, message) {
  process.stderr.write(`${message}\n\n${usage}`);
  process.exit(2);
}
