/** `npm run fuzz:bytes`: fuzzes what reads bytes of peers; docs/fuzzing.md. */
import { runBenchProgram } from './lib/bench-program.mjs';

await runBenchProgram('fuzz-bytes.js');
