#!/usr/bin/env node
import { fileURLToPath } from 'node:url';
import { loadProgram } from './code-cache.js';
import type * as Program from './program.js';
import { closeInspectorLate } from './signals.js';

/** Of root's daemon: the service manager makes the folder above it, and keeps it between two lives. */
const CODE_DIRECTORY = '/run/xen-blockd/code';

// All else is loaded after the signals are ours.
const directory = process.argv[2] === 'run' && process.geteuid?.() === 0 ? CODE_DIRECTORY : undefined;
const program = loadProgram<typeof Program>(fileURLToPath(new URL('program.cjs', import.meta.url)), directory);
closeInspectorLate();
await program.exports.main(program);
