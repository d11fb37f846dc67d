/** dom0's program of a run: /lab/run.json says which. */
import { readFileSync } from 'node:fs';
import { log, report } from './report.mjs';

const run = JSON.parse(readFileSync('/lab/run.json', 'utf8'));
const heartbeat = setInterval(() => report({ type: 'alive' }), 20_000);
try {
  const { main } = await import(`./${run.program}.mjs`);
  await main(run);
  report({ type: 'end' });
} catch (error) {
  log(`failed: ${error.stack}`);
}
clearInterval(heartbeat);
process.exit(0);
