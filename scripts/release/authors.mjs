/** What an author of a backend begins with, from the tarballs: the template, and the example of tests on bad days. */
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../lib/steps.mjs';
import { ROOT } from '../lib/workspace.mjs';
import { INSTALL_OPTIONS, npmProgram } from './project.mjs';

const EXAMPLES = join(ROOT, 'examples');
const MOST_MS = 300_000;
/** What examples/fault-test has of the workspace's root. */
const TOOLS = ['@types/node', 'typescript', 'vitest'];

/** The template, copied by its one command, with every script of its package.json that needs no Xen. */
export async function tryTemplate(work, node, tarballs) {
  const folder = join(work, 'vsnd-backend');
  await run('copy', node, [join(EXAMPLES, 'template-backend', 'new.mjs'), 'vsnd', folder]);
  const npm = await installed(folder, node, tarballs);
  for (const script of ['build', 'typecheck']) await npm('run', script);
  return passed(await npm('test'));
}

export async function tryFaultTest(work, node, tarballs) {
  const folder = join(work, 'clone', 'examples', 'fault-test');
  mkdirSync(folder, { recursive: true });
  for (const name of ['package.json', 'src', 'tsconfig.json']) {
    cpSync(join(EXAMPLES, 'fault-test', name), join(folder, name), { recursive: true });
  }
  cpSync(join(ROOT, 'tsconfig.base.json'), join(work, 'clone', 'tsconfig.base.json'));
  const { devDependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const tools = TOOLS.map((name) => `${name}@${devDependencies[name]}`);
  const npm = await installed(folder, node, tarballs, tools);
  await npm('run', 'typecheck');
  return passed(await npm('test'));
}

/** Installs what package.json names, ours from the tarballs; resolves with a function that runs npm there. */
async function installed(folder, node, tarballs, tools = []) {
  const path = join(folder, 'package.json');
  const manifest = JSON.parse(readFileSync(path, 'utf8'));
  const wanted = [];
  for (const dependencies of [manifest.dependencies, manifest.devDependencies]) {
    for (const name of Object.keys(dependencies).filter((each) => each.startsWith('@xenpv/'))) {
      wanted.push(name);
      delete dependencies[name];
    }
  }
  writeFileSync(path, JSON.stringify(manifest));
  const program = await npmProgram();
  const npm = (...args) => run(`npm ${args[0]}`, node, [program, ...args], { cwd: folder, timeoutMs: MOST_MS });
  // With the packages that those need, for no registry has them.
  await npm('install', ...INSTALL_OPTIONS, ...tarballs.filter((one) => !/\/xen-blockd-[^/]*$/.test(one)), ...tools);
  const present = readdirSync(join(folder, 'node_modules', '@xenpv'));
  const missing = wanted.filter((name) => !present.includes(name.replace('@xenpv/', '')));
  if (missing.length > 0) throw new Error(`not among the tarballs: ${missing.join(', ')}`);
  return npm;
}

/** What vitest says of its tests, without its colours. */
function passed(output) {
  const [, count] = /Tests +(\d+) passed/.exec(output.replace(/\x1b\[\d+m/g, '')) ?? [];
  if (count === undefined) throw Object.assign(new Error('no test has passed'), { output });
  return `${count} tests`;
}
