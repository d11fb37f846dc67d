#!/usr/bin/env node
import { runCommandLine } from './command-line.js';

const ending = new AbortController();
if (process.argv[2] === 'watch') process.once('SIGINT', () => ending.abort());
// The reader of a pipe may go first: `xenstore ls | head`.
process.stdout.on('error', () => process.exit(1));

process.exitCode = await runCommandLine({
  argv: process.argv.slice(2),
  out: (bytes) => process.stdout.write(bytes),
  error: (text) => process.stderr.write(text),
  columns: process.stdout.isTTY ? process.stdout.columns : undefined,
  signal: ending.signal,
});
