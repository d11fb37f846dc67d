/** `node scripts/setup.mjs`: makes a fresh clone ready, see lib/setup.mjs. */
import { runMain, sayOnStderr } from './lib/program.mjs';
import { setup } from './lib/setup.mjs';
import { seconds } from './lib/steps.mjs';

await runMain(async () => {
  const began = performance.now();
  await setup(sayOnStderr);
  sayOnStderr(`set up in ${seconds(began)}`);
});
