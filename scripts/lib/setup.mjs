/**
 * Makes a fresh clone ready with Node 20 and npm alone: fetches pnpm into .tools, installs the locked dependencies and
 * builds the JavaScript of every package. Each step is skipped while its inputs are unchanged. Native addons are not
 * needed and not built here.
 */
import { existsSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { run, StepError } from './steps.mjs';
import { filesBelow, hashOf, isFresh, markFresh, ROOT, workspacePackages } from './workspace.mjs';

const TOOLS = join(ROOT, '.tools');
const PNPM = join(TOOLS, 'node_modules', 'pnpm', 'bin', 'pnpm.cjs');

/** The environment in which the workspace's programs run: our pnpm first in PATH, nothing reported anywhere. */
export const TOOL_ENV = {
  PATH: [join(TOOLS, 'node_modules', '.bin'), join(ROOT, 'node_modules', '.bin'), process.env.PATH].join(delimiter),
  TURBO_TELEMETRY_DISABLED: '1',
  DO_NOT_TRACK: '1',
  CI: process.env.CI ?? '1',
};

/** Errors: StepError. `say` gets one line for each step that has something to do. */
export async function setup(say = () => {}) {
  checkNode();
  await fetchPnpm(say);
  await installDependencies(say);
  await buildJavaScript(say);
}

function checkNode() {
  const major = Number(process.versions.node.split('.')[0]);
  if (major < 20) throw new StepError('setup', `Node 20 or later is needed, this is ${process.version}`);
}

async function fetchPnpm(say) {
  const { packageManager } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const manifest = join(TOOLS, 'node_modules', 'pnpm', 'package.json');
  const wanted = packageManager.replace(/^pnpm@/, '');
  if (existsSync(manifest) && JSON.parse(readFileSync(manifest, 'utf8')).version === wanted) return;
  say(`fetching ${packageManager}`);
  const args = [
    'install',
    '--prefix',
    TOOLS,
    '--no-save',
    '--no-audit',
    '--no-fund',
    '--loglevel=error',
    packageManager,
  ];
  await run('setup: pnpm', 'npm', args, { cwd: ROOT });
}

async function installDependencies(say) {
  const manifests = workspacePackages().map(({ folder }) => `${folder}/package.json`);
  const hash = hashOf(['package.json', 'pnpm-lock.yaml', 'pnpm-workspace.yaml', '.npmrc', ...manifests]);
  if (isFresh('install', hash) && existsSync(join(ROOT, 'node_modules', '.modules.yaml'))) return;
  say('installing dependencies');
  const args = [PNPM, 'install', '--frozen-lockfile', '--reporter=append-only'];
  await run('setup: install', process.execPath, args, { cwd: ROOT, env: TOOL_ENV });
  markFresh('install', hash);
}

async function buildJavaScript(say) {
  const built = workspacePackages().filter(({ manifest }) => manifest.scripts?.['build:js']);
  const sources = built.flatMap(({ folder }) => filesBelow(folder).filter((path) => !path.endsWith('.test.ts')));
  const hash = hashOf(['pnpm-lock.yaml', 'tsup.base.ts', 'tsconfig.base.json', ...sources]);
  if (isFresh('build', hash) && built.every(({ folder }) => existsSync(join(ROOT, folder, 'dist')))) return;
  say('building');
  await turbo('setup: build', ['build:js']);
  markFresh('build', hash);
}

/** Builds the native addons; resolves with why not where it cannot. What uses them then does without, or is skipped. */
export async function buildAddons() {
  const missing = await missingPrograms(['g++']);
  if (missing.length > 0) return `skipped: needs ${missing.join(', ')}; what uses the addons is skipped too`;
  await run('native', process.execPath, [join(ROOT, 'scripts', 'build-native.mjs')], { cwd: ROOT, env: TOOL_ENV });
  return undefined;
}

async function missingPrograms(programs) {
  const missing = [];
  for (const program of programs) {
    await run(program, program, ['--version']).catch(() => missing.push(program));
  }
  return missing;
}

/** Runs tasks of turbo.json in every package that has them; what they print is shown only when they fail. */
export function turbo(name, tasks, options = []) {
  const args = [
    'run',
    ...tasks,
    '--output-logs=errors-only',
    '--log-order=grouped',
    '--continue=dependencies-successful',
    ...options,
  ];
  return run(name, join(ROOT, 'node_modules', '.bin', 'turbo'), args, { cwd: ROOT, env: TOOL_ENV });
}
