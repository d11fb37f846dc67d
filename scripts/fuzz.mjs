/** `npm run fuzz`: sets the clone up, then fuzzes the data plane; docs/fuzzing.md. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { runMain, sayOnStderr } from './lib/program.mjs';
import { buildAddons, setup } from './lib/setup.mjs';
import { ROOT } from './lib/workspace.mjs';

await runMain(async () => {
  await setup(sayOnStderr);
  sayOnStderr(`addons: ${(await buildAddons()) ?? 'built'}`);
  const program = join(ROOT, 'bench', 'dist', 'fuzz.js');
  // npm runs scripts in the package's folder; paths in the arguments mean the caller's.
  const cwd = process.env.INIT_CWD ?? process.cwd();
  const child = spawn(process.execPath, [program, ...process.argv.slice(2)], { cwd, stdio: 'inherit' });
  process.exitCode = await new Promise((resolve) => {
    child.on('close', (code) => resolve(code ?? 1));
  });
});
