/** `npm run test:soak`: one daemon for an hour, with all that it holds counted; docs/security.md. */
import { runBenchProgram } from './lib/bench-program.mjs';

await runBenchProgram('soak.js');
