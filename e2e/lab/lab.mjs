/** The labs: one for each Xen release, built once and kept outside the tree under the hash of their recipe. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createWriteStream, existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cacheFolder } from '../../scripts/lib/cache.mjs';
import { StepError } from '../../scripts/lib/steps.mjs';
import { debianMirror, ensurePrograms, proxyEnvironment } from './debian.mjs';

const RECIPE = fileURLToPath(new URL('./build.sh', import.meta.url));
const BUILD_MINUTES = 25;

/** Xen releases and the Debian suites that have them. */
export const SUITES = { '4.20': 'trixie', 4.17: 'bookworm' };

/** The folder of the lab of a Xen release, which is built if need be. Errors: StepError. */
export async function ensureLab(xen, say) {
  const suite = SUITES[xen];
  const hash = createHash('sha256').update(readFileSync(RECIPE)).digest('hex').slice(0, 12);
  const cache = cacheFolder('lab');
  const folder = join(cache, `${suite}-${hash}`);
  const building = !existsSync(join(folder, 'versions'));
  await ensurePrograms(say, { building });
  if (building) await build(folder, suite, say);
  return folder;
}

async function build(folder, suite, say) {
  if (process.getuid() !== 0) throw new StepError('the Xen lab', 'building it needs root, for debootstrap');
  const mirror = debianMirror();
  const began = performance.now();
  say(`building the lab of ${suite} into ${folder}`);
  const partial = `${folder}.partial-${process.pid}`;
  rmSync(partial, { recursive: true, force: true });
  mkdirSync(partial, { recursive: true });
  const log = `${folder}.log`;
  try {
    await recipe([partial, suite, mirror], log);
    rmSync(folder, { recursive: true, force: true });
    renameSync(partial, folder);
  } catch (error) {
    rmSync(partial, { recursive: true, force: true });
    throw new StepError(`the lab of ${suite}`, `${error.message}; its log: ${log}`, readFileSync(log, 'utf8'));
  }
  say(`built in ${((performance.now() - began) / 1000).toFixed(0)} s`);
}

async function recipe(args, log) {
  const env = { ...process.env, ...(await proxyEnvironment()), DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C.UTF-8' };
  const file = createWriteStream(log);
  const child = spawn('bash', [RECIPE, ...args], { stdio: ['ignore', 'pipe', 'pipe'], env, detached: true });
  child.stdout.pipe(file, { end: false });
  child.stderr.pipe(file, { end: false });
  // The whole group: what a shell started outlives it.
  const timer = setTimeout(() => process.kill(-child.pid, 'SIGKILL'), BUILD_MINUTES * 60_000);
  const [code, signal] = await new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (...ended) => resolve(ended));
  });
  clearTimeout(timer);
  await new Promise((resolve) => file.end(resolve));
  if (code !== 0) throw new Error(signal ? `stopped after ${BUILD_MINUTES} minutes` : `exit code ${code}`);
}
