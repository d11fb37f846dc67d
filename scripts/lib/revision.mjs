/** Another revision of this tree, built, in a folder of its own. */
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { cacheFolder } from './cache.mjs';
import { run, StepError } from './steps.mjs';
import { ROOT } from './workspace.mjs';

/** The folder, which is kept for the next time. Errors: StepError. */
export async function revision(name, say) {
  const commit = await commitOf(name);
  const cache = cacheFolder('revisions');
  const folder = join(cache, commit);
  if (existsSync(folder)) return folder;
  const partial = `${folder}.partial-${process.pid}`;
  mkdirSync(cache, { recursive: true });
  try {
    say(`building ${name} in ${folder}`);
    await run('clone', 'git', ['clone', '--quiet', '--no-checkout', ROOT, partial]);
    await run('checkout', 'git', ['-C', partial, 'checkout', '--quiet', '--detach', commit]);
    // Its own way to be built.
    const build = "const m = await import('./scripts/lib/setup.mjs'); await m.setup(); await m.buildAddons();";
    await run(`build of ${name}`, process.execPath, ['--input-type=module', '-e', build], {
      cwd: partial,
    });
    renameSync(partial, folder);
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
  return folder;
}

async function commitOf(name) {
  const found = await run('revision', 'git', [
    '-C',
    ROOT,
    'rev-parse',
    '--verify',
    '--quiet',
    `${name}^{commit}`,
  ]).catch(() => '');
  if (!found) throw new StepError('bench', `--compare is ${name}; expected a commit, branch or tag of ${ROOT}`);
  return found.trim();
}
