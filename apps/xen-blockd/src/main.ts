#!/usr/bin/env node
import { runCommandLine } from './command-line.js';

// Whoever reads our output may stop reading (`| head`): what is under way goes on to its clean end.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
});
process.exitCode = await runCommandLine(process.argv.slice(2));
