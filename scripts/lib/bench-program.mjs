/** Sets the clone up and runs one of the programs of bench/ with the command line's arguments. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { runMain, sayOnStderr } from './program.mjs';
import { buildAddons, setup } from './setup.mjs';
import { ROOT } from './workspace.mjs';

/** `name`: of the file in bench/dist. Ends with the program's exit code. */
export async function runBenchProgram(name) {
  await runMain(async () => {
    await setup(sayOnStderr);
    sayOnStderr(`addons: ${(await buildAddons()) ?? 'built'}`);
    const program = join(ROOT, 'bench', 'dist', name);
    // npm runs scripts in the package's folder; paths in the arguments mean the caller's.
    const cwd = process.env.INIT_CWD ?? process.cwd();
    const child = spawn(process.execPath, [program, ...process.argv.slice(2)], { cwd, stdio: 'inherit' });
    process.exitCode = await new Promise((resolve) => {
      child.on('close', (code) => resolve(code ?? 1));
    });
  });
}
