/** `npm run bench`: the benchmarks of the layers and of all of them on the embedded host. Each prints its table. */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { readArguments, runMain, sayOnStderr } from './lib/program.mjs';
import { buildAddons, setup } from './lib/setup.mjs';
import { StepError } from './lib/steps.mjs';
import { ROOT } from './lib/workspace.mjs';

const USAGE = `usage: npm run bench -- [options]

  --quick      short rounds
  --json FILE  writes the results of all to FILE, as one JSON object
  --help       this text
`;

/** Programs of bench/dist: each takes --quick and --json FILE. */
const PROGRAMS = ['embedded', 'blockdev', 'xenstore', 'restart', 'fairness'];

await runMain(async () => {
  const options = { quick: { type: 'boolean', default: false }, json: { type: 'string' } };
  const { values } = readArguments(USAGE, options);
  await setup(sayOnStderr);
  sayOnStderr(`addons: ${(await buildAddons()) ?? 'built'}`);
  const directory = mkdtempSync(join(tmpdir(), 'xen-blockd-bench-'));
  const results = {};
  try {
    for (const name of PROGRAMS) Object.assign(results, await bench(name, directory, values.quick));
  } finally {
    rmSync(directory, { recursive: true });
  }
  if (values.json)
    writeFileSync(resolve(process.env.INIT_CWD ?? '.', values.json), `${JSON.stringify(results, null, 2)}\n`);
});

/** Resolves with the program's results. */
async function bench(name, directory, quick) {
  const program = join(ROOT, 'bench', 'dist', `${name}.js`);
  if (!existsSync(program)) return {};
  console.log(`\n== ${name}`);
  const json = join(directory, `${name}.json`);
  const child = spawn(process.execPath, [program, ...(quick ? ['--quick'] : []), '--json', json], { stdio: 'inherit' });
  const code = await new Promise((done) => child.on('close', done));
  if (code !== 0) throw new StepError('bench', `${name} ended with ${code}`);
  return existsSync(json) ? JSON.parse(readFileSync(json, 'utf8')) : {};
}
