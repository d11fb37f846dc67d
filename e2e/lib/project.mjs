/** The project itself, built as a run needs it. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../../scripts/lib/steps.mjs';
import { ROOT } from '../../scripts/lib/workspace.mjs';
import { setup, TOOL_ENV } from '../../scripts/setup.mjs';

/** Installs, and builds the JavaScript and the native addons. Errors: StepError. */
export async function makeReady(say) {
  await setup(say);
  const script = join(ROOT, 'scripts', 'build-native.mjs');
  if (existsSync(script)) await run('native', process.execPath, [script], { cwd: ROOT, env: TOOL_ENV });
}
