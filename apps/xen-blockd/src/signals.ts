import inspector from 'node:inspector';
import { markEarlyStop, STOP_SIGNALS } from './early-stop.js';

/**
 * What a process of ours makes of signals before anything else is loaded. Must be the program's first import.
 *
 * Node opens its inspector on SIGUSR1, on a port that every local user may connect to, and whoever does runs code as
 * this process. A listener takes the signal from Node. A signal that Node got before is answered while the program
 * loads: what it opened is closed again. Newer versions have `--disable-sigusr1`, which older ones refuse.
 */
for (const name of ['SIGUSR1', 'SIGUSR2'] as const) process.on(name, () => {});

const end = () => process.exit(0);
markEarlyStop(end);

// A reload that comes before the configuration was read finds what it asks for. Other commands end with their terminal.
if (process.argv[2] === 'run') {
  process.on('SIGHUP', () => {});
  // Nothing is served yet: a stop is as clean as any.
  for (const name of STOP_SIGNALS) process.on(name, end);
}

const WANTED = /^--inspect(-brk|-wait)?(=|$)/;
const wanted = [...process.execArgv, ...(process.env.NODE_OPTIONS ?? '').split(/\s+/)].some((arg) => WANTED.test(arg));

/** How long after the start Node may still open one, for a signal that came before: on a busy machine not at once. */
const LATE_MS = [0, 100, 1000];

/** Closes an inspector that nobody asked for on the command line, now and a little later. */
export function closeInspectorLate(): void {
  closeInspector();
  for (const milliseconds of LATE_MS) setTimeout(closeInspector, milliseconds).unref();
}

function closeInspector(): void {
  if (!wanted && inspector.url() !== undefined) inspector.close();
}

closeInspector();
