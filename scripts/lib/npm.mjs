/** Programs from npm that are no dependencies of the workspace. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { run } from './steps.mjs';

/** Installs packages into a folder's node_modules; `--force` among them takes those for another machine. */
export async function fetchPackages(folder, packages) {
  mkdirSync(folder, { recursive: true });
  writeFileSync(`${folder}/package.json`, '{ "private": true }\n');
  const args = ['install', '--no-audit', '--no-fund', '--prefer-offline', '--loglevel=error', ...packages];
  await run(`fetch ${packages.join(' ')}`, 'npm', args, { cwd: folder });
}
