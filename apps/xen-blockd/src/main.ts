#!/usr/bin/env node
import { setFlagsFromString } from 'node:v8';
import { runCommandLine } from './cli/command-line.js';

// A reader of our output may stop reading (`| head`): work in flight still comes to its clean end.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
});
// Machine code from the first call on: after an upgrade guests wait for a program that has not run yet.
setFlagsFromString('--always-sparkplug');
process.exitCode = await runCommandLine(process.argv.slice(2));
