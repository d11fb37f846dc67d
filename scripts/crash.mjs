/** `npm run test:crash`: kills the daemon under guests that verify; docs/restart.md. */
import { runBenchProgram } from './lib/bench-program.mjs';

await runBenchProgram('crash.js');
