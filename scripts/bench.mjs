/** `npm run bench`: the benchmarks of the layers and of all of them on the embedded host. Each prints its table. */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { readArguments, runMain, sayOnStderr, usageError } from './lib/program.mjs';
import { revision } from './lib/revision.mjs';
import { buildAddons, setup } from './lib/setup.mjs';
import { StepError } from './lib/steps.mjs';
import { ROOT } from './lib/workspace.mjs';

const USAGE = `usage: npm run bench -- [options]

  --quick          short rounds
  --json FILE      writes the results of all to FILE, as one JSON object
  --compare REV    builds another revision, and compares with it in turns: a table of ratios with intervals of 95 %.
                   Exit code 1: a figure became worse
  --programs LIST  with --compare: of bench/dist, with commas; embedded
  --pairs N        with --compare: 6 or more; 9
  --tolerance N    with --compare: percent by which a figure may be worse; 3
  --help           this text

Examples:
  npm run bench -- --quick
  npm run bench -- --compare HEAD~1
  npm run bench -- --compare v0.3.0 --programs embedded,blockdev --pairs 15
`;

/** Programs of bench/dist: each takes --quick and --json FILE. */
const PROGRAMS = ['embedded', 'blockdev', 'xenstore', 'restart', 'fairness'];
const TEXT = { type: 'string' };
const OF_COMPARE = ['programs', 'pairs', 'tolerance'];

await runMain(async () => {
  const ofCompare = Object.fromEntries(OF_COMPARE.map((name) => [name, TEXT]));
  const options = { quick: { type: 'boolean', default: false }, json: TEXT, compare: TEXT, ...ofCompare };
  const { values } = readArguments(USAGE, options);
  const astray = OF_COMPARE.find((name) => values[name] !== undefined && values.compare === undefined);
  if (astray) usageError(USAGE, `--${astray} needs --compare`);
  if (values.quick && values.compare !== undefined)
    usageError(USAGE, '--compare has short rounds always: not with --quick');
  await setup(sayOnStderr);
  sayOnStderr(`addons: ${(await buildAddons()) ?? 'built'}`);
  const json = values.json && resolve(process.env.INIT_CWD ?? '.', values.json);
  if (values.compare === undefined) await benchAll(json, values.quick);
  else await compare(json, values);
});

async function benchAll(json, quick) {
  const directory = mkdtempSync(join(tmpdir(), 'xen-blockd-bench-'));
  const results = {};
  try {
    for (const name of PROGRAMS) Object.assign(results, await bench(name, directory, quick));
  } finally {
    rmSync(directory, { recursive: true });
  }
  if (json) writeFileSync(json, `${JSON.stringify(results, null, 2)}\n`);
}

async function compare(json, values) {
  const before = await revision(values.compare, sayOnStderr);
  const chosen = OF_COMPARE.filter((name) => values[name] !== undefined).flatMap((name) => [`--${name}`, values[name]]);
  const args = ['--before', before, ...chosen, ...(json ? ['--json', json] : [])];
  process.exitCode = await runProgram(join(ROOT, 'bench', 'dist', 'compare.js'), args);
}

/** Resolves with the program's results. */
async function bench(name, directory, quick) {
  const program = join(ROOT, 'bench', 'dist', `${name}.js`);
  if (!existsSync(program)) return {};
  console.log(`\n== ${name}`);
  const json = join(directory, `${name}.json`);
  const code = await runProgram(program, [...(quick ? ['--quick'] : []), '--json', json]);
  if (code !== 0) throw new StepError('bench', `${name} ended with ${code}`);
  return existsSync(json) ? JSON.parse(readFileSync(json, 'utf8')) : {};
}

/** Resolves with its exit code. */
function runProgram(program, args) {
  const child = spawn(process.execPath, [program, ...args], { stdio: 'inherit' });
  return new Promise((done) => child.on('close', (code) => done(code ?? 1)));
}
