/**
 * `npm start -- [IMAGE] [options]`: sets the clone up, then serves a disk image to a guest on the embedded Xen.
 * `npm start -- COMMAND ...` runs another command of xen-blockd.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { runMain, sayOnStderr } from './lib/program.mjs';
import { setup } from './lib/setup.mjs';
import { ROOT } from './lib/workspace.mjs';

/** A file of such a name is written ./host. */
const COMMANDS = ['host', 'guest', 'run', 'demo'];

await runMain(async () => {
  await setup(sayOnStderr);
  const program = join(ROOT, 'apps', 'xen-blockd', 'dist', 'main.js');
  // npm runs scripts in the package's folder; paths in the arguments mean the caller's.
  const cwd = process.env.INIT_CWD ?? process.cwd();
  const args = process.argv.slice(2);
  const all = COMMANDS.includes(args[0]) ? args : ['demo', ...args];
  const child = spawn(process.execPath, [program, ...all], { cwd, stdio: 'inherit' });
  // A terminal sends its signals to the whole group; others must be handed on. The child decides when to end.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'])
    process.on(signal, () => signal !== 'SIGINT' && child.kill(signal));
  process.exitCode = await new Promise((resolve) => {
    child.on('close', (code, signal) => resolve(signal ? 1 : code));
  });
});
