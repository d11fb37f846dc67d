/** `npm run test:hostile`: hostile guests against the data plane; docs/fuzzing.md. */
import { runBenchProgram } from './lib/bench-program.mjs';

await runBenchProgram('hostile.js');
