/** What a machine leaves: its console, QEMU's messages and what dom0 packed at its end. */
import { cpSync, existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from '../../scripts/lib/steps.mjs';

const LOGS = fileURLToPath(new URL('../logs', import.meta.url));

/** Moves the logs of the run in `folder` to e2e/logs/NAME, and resolves with that path. */
export async function keepLogs(folder, name) {
  const target = join(LOGS, name);
  rmSync(target, { recursive: true, force: true });
  mkdirSync(target, { recursive: true });
  for (const file of ['console.log', 'qemu.log', 'failures.log']) {
    if (existsSync(join(folder, file))) cpSync(join(folder, file), join(target, file));
  }
  // A machine that was stopped has packed nothing.
  await run('logs', 'tar', ['-C', target, '-xf', join(folder, 'logs.img')]).catch(() => {});
  return target;
}
