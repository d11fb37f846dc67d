/** `npm run fuzz`: fuzzes the data plane; docs/fuzzing.md. */
import { runBenchProgram } from './lib/bench-program.mjs';

await runBenchProgram('fuzz.js');
