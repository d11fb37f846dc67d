/** `node scripts/turbo.mjs TASK...`: runs tasks of turbo.json in every package, with the clone's own pnpm. */
import { join } from 'node:path';
import { runMain, sayOnStderr } from './lib/program.mjs';
import { setup, TOOL_ENV } from './lib/setup.mjs';
import { run } from './lib/steps.mjs';
import { ROOT } from './lib/workspace.mjs';

await runMain(async () => {
  await setup(sayOnStderr);
  const args = ['run', ...process.argv.slice(2)];
  await run('turbo', join(ROOT, 'node_modules', '.bin', 'turbo'), args, { cwd: ROOT, env: TOOL_ENV, show: true });
});
