/**
 * node dist/fuzz.js [options]: a fuzzer of the data plane. A guest on a thread of its own sends requests of all kinds, good
 * and bad, and knows what every answer must be; the backend serves them from files or memory, in every way there is.
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { type RoundResult, runRound } from './fuzz/round.js';
import { drawSetup, ENGINES, type Fixed, type Setup, TRANSFERS } from './fuzz/setup.js';

const USAGE = `usage: npm run fuzz -- [options]

Rounds of requests, each with a setup drawn from its seed: SEED, SEED + 1, and so on.

  --requests N       requests in all; 1000000
  --round N          requests in a round; 50000
  --seconds N        begins no round after that time
  --seed SEED        of the first round; drawn by chance. A failure names the seed of its round
  --json FILE        writes results to FILE
  --help             this text

Fixed in all rounds, instead of drawn:
  --engine io_uring | threads | memory
  --transfer copy | map | persistent
  --direct 0 | 1     past the page cache
  --memory MIB       the backend's buffer memory
  --queues N         rings of the disk, 1 to 4
  --threads N        worker threads of the backend
  --depth N          requests in flight on each ring
  --odd 0 | 1        storage that ends operations late and in any order, and fails some
  --burners N        threads that only use the processor
  --churn 0 | 1      another disk is connected and closed all the time
  --moves 0 | 1      rings are detached and attached again, on another thread if there is one
`;

const STRING = { type: 'string' } as const;
const OPTIONS = {
  requests: STRING,
  round: STRING,
  seconds: STRING,
  seed: STRING,
  json: STRING,
  engine: STRING,
  transfer: STRING,
  direct: STRING,
  memory: STRING,
  queues: STRING,
  threads: STRING,
  depth: STRING,
  odd: STRING,
  burners: STRING,
  churn: STRING,
  moves: STRING,
  help: { type: 'boolean' },
} as const;

type Values = ReturnType<typeof readValues>;

function readValues() {
  return parseArgs({ options: OPTIONS }).values;
}

function usageError(message: string): never {
  process.stderr.write(`${message}\n\n${USAGE}`);
  process.exit(2);
}

function wholeNumber(values: Values, name: Exclude<keyof Values, 'help'>): number | undefined {
  const text = values[name];
  if (text === undefined) return undefined;
  if (!/^\d{1,15}$/.test(text)) usageError(`--${name} is ${text}; expected a whole number`);
  return Number(text);
}

function oneOf<T extends string>(values: Values, name: 'engine' | 'transfer', all: readonly T[]): T | undefined {
  const text = values[name];
  if (text !== undefined && !all.includes(text as T)) usageError(`--${name} is ${text}; expected ${all.join(', ')}`);
  return text as T | undefined;
}

function flag(values: Values, name: 'direct' | 'odd' | 'churn' | 'moves'): boolean | undefined {
  const text = values[name];
  if (text !== undefined && text !== '0' && text !== '1') usageError(`--${name} is ${text}; expected 0 or 1`);
  return text === undefined ? undefined : text === '1';
}

function readFixed(values: Values): Fixed {
  const all = {
    engine: oneOf(values, 'engine', ENGINES),
    transfer: oneOf(values, 'transfer', TRANSFERS),
    direct: flag(values, 'direct'),
    memoryMiB: wholeNumber(values, 'memory'),
    queues: wholeNumber(values, 'queues'),
    threads: wholeNumber(values, 'threads'),
    depth: wholeNumber(values, 'depth'),
    odd: flag(values, 'odd'),
    burners: wholeNumber(values, 'burners'),
    churn: flag(values, 'churn'),
    moves: flag(values, 'moves'),
  };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined)) as Fixed;
}

/** The options that make this round again. */
function replay(setup: Setup, values: Values): string {
  const { seed, requests } = setup;
  const fixed = Object.entries({ ...values, seed, requests, round: requests });
  return fixed
    .filter(([name]) => name !== 'json' && name !== 'seconds')
    .map(([name, value]) => `--${name} ${value}`)
    .join(' ');
}

interface Results {
  seed: number;
  rounds: number;
  requests: number;
  reconnections: number;
  moves: number;
  checks: number;
  seconds: number;
  failure?: { setup: Setup; message: string };
}

async function main(values: Values): Promise<void> {
  const fixed = readFixed(values);
  const requests = wholeNumber(values, 'requests') ?? 1_000_000;
  const round = wholeNumber(values, 'round') ?? 50_000;
  const until = performance.now() + (wholeNumber(values, 'seconds') ?? Number.POSITIVE_INFINITY) * 1000;
  const seed = wholeNumber(values, 'seed') ?? Math.floor(Math.random() * 1e9);
  const results: Results = { seed, rounds: 0, requests: 0, reconnections: 0, moves: 0, checks: 0, seconds: 0 };
  while (results.requests < requests && performance.now() < until && !results.failure) {
    const setup = drawSetup(seed + results.rounds, Math.min(round, requests - results.requests), fixed);
    await runOne(setup, results, values);
  }
  if (values.json) writeFileSync(values.json, `${JSON.stringify(results, null, 2)}\n`);
  const { rounds, requests: answered, checks, reconnections, moves } = results;
  const around = `${reconnections} reconnections, ${moves} moves`;
  console.log(`${rounds} rounds, ${answered} requests, ${checks} checks at rest, ${around}`);
  // After a failure threads may wait for ever.
  if (results.failure) process.exit(1);
}

async function runOne(setup: Setup, results: Results, values: Values): Promise<void> {
  const { seed, requests, ...drawn } = setup;
  const text = Object.entries(drawn).map(([key, value]) => `${key}=${value}`);
  console.log(`seed ${seed}: ${text.join(' ')}`);
  try {
    add(results, await runRound(setup, (answered) => progress(answered, requests)));
  } catch (error) {
    const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
    results.failure = { setup, message };
    console.log(`FAILED: ${message}\nagain: npm run fuzz -- ${replay(setup, values)}`);
  }
}

function progress(answered: number, requests: number): void {
  if (process.stderr.isTTY) process.stderr.write(`\r${answered} of ${requests} \r`);
}

function add(results: Results, { answered, reconnections, moves, checks, seconds }: RoundResult): void {
  results.rounds++;
  results.requests += answered;
  results.reconnections += reconnections;
  results.moves += moves;
  results.checks += checks;
  results.seconds += seconds;
  console.log(`  ${answered} requests in ${seconds.toFixed(1)} s`);
}

let values: Values;
try {
  values = readValues();
} catch (error) {
  usageError((error as Error).message);
}
if (values.help) process.stdout.write(USAGE);
else await main(values);
