/** dom0's program of a run: /lab/run.json says which. */
import { log, report } from './report.mjs';
import { run } from './run.mjs';

const PROGRAMS = { tests: './tests.mjs', bench: '../bench/measure.mjs' };

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
