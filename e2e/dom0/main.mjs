/** dom0's program of a run: /lab/run.json says which. */
import { readFileSync } from 'node:fs';
import { RUN } from './paths.mjs';
import { log, report } from './report.mjs';

const PROGRAMS = { tests: './tests.mjs', bench: '../bench/measure.mjs' };

const run = JSON.parse(readFileSync(RUN, 'utf8'));
const heartbeat = setInterval(() => report({ type: 'alive' }), 20_000);
try {
  const { main } = await import(PROGRAMS[run.program]);
  await main(run);
  report({ type: 'end' });
} catch (error) {
  log(`failed: ${error.stack}`);
}
clearInterval(heartbeat);
process.exit(0);
