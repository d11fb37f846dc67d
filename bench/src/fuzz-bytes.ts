/**
 * node dist/fuzz-bytes.js [options]: what reads bytes of peers that are not trusted, with inputs made from a corpus. Every
 * input follows from its seed: that of the first, and one more for each.
 */
import { readCorpus } from './bytes/corpus.js';
import { readInputs } from './bytes/run.js';
import type { Target } from './bytes/target.js';
import { TARGETS } from './bytes/targets.js';
import { ProgramArguments } from './program/arguments.js';

const USAGE = `usage: npm run fuzz:bytes -- [options]

Inputs for what reads bytes of peers, made from bench/corpus: ${TARGETS.map(({ name }) => name).join(', ')}.

  --target NAME   only that one
  --inputs N      for each target; 100000
  --seconds N     ends after that time
  --seed SEED     of the first input; drawn by chance. A failure names the seed of its input
  --help          this text
`;

const args = new ProgramArguments(USAGE, ['target', 'inputs', 'seconds', 'seed']);

async function main(): Promise<void> {
  const targets = TARGETS.filter(({ name }) => args.values.target === undefined || args.values.target === name);
  if (targets.length === 0) {
    args.refuse(`--target is ${args.values.target}; expected ${TARGETS.map(({ name }) => name).join(', ')}`);
  }
  const inputs = args.wholeNumber('inputs') ?? 100_000;
  const until = performance.now() + (args.wholeNumber('seconds') ?? Number.POSITIVE_INFINITY) * 1000;
  const seed = args.wholeNumber('seed') ?? Math.floor(Math.random() * 1e9);
  for (const target of targets) await run(target, seed, inputs, until);
}

async function run(target: Target, seed: number, inputs: number, until: number): Promise<void> {
  const corpus = readCorpus(target.name);
  const { done, failure } = await readInputs(target, corpus, { seed, inputs, until });
  console.log(`${target.name}: ${corpus.length} inputs of the corpus, ${done} made from them, seed ${seed}`);
  if (!failure) return;
  const again = `--target ${target.name} --seed ${failure.seed} --inputs 1`;
  console.log(`FAILED: ${failure.message}\ninput: ${failure.bytes.toString('hex').slice(0, 4000)}`);
  console.log(`again: npm run fuzz:bytes -- ${again}`);
  process.exitCode = 1;
}

await main();
