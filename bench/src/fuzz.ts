/**
 * node dist/fuzz.js [options]: a fuzzer of the data plane. A guest on a thread of its own sends requests of all kinds, good
 * and bad, and knows what every answer must be; the backend serves them from files or memory, in every way there is.
 */
import { writeFileSync } from 'node:fs';
import { type RoundResult, runRound } from './fuzz/round.js';
import { drawSetup, ENGINES, type Fixed, type Setup, TRANSFERS } from './fuzz/setup.js';
import { ProgramArguments } from './program/arguments.js';

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

const args = new ProgramArguments(USAGE, [
  'requests',
  'round',
  'seconds',
  'seed',
  'json',
  'engine',
  'transfer',
  'direct',
  'memory',
  'queues',
  'threads',
  'depth',
  'odd',
  'burners',
  'churn',
  'moves',
]);

function oneOf<T extends string>(name: 'engine' | 'transfer', all: readonly T[]): T | undefined {
  const text = args.values[name];
  if (text !== undefined && !all.includes(text as T)) args.refuse(`--${name} is ${text}; expected ${all.join(', ')}`);
  return text as T | undefined;
}

function flag(name: 'direct' | 'odd' | 'churn' | 'moves'): boolean | undefined {
  const text = args.values[name];
  if (text !== undefined && text !== '0' && text !== '1') args.refuse(`--${name} is ${text}; expected 0 or 1`);
  return text === undefined ? undefined : text === '1';
}

function readFixed(): Fixed {
  const all = {
    engine: oneOf('engine', ENGINES),
    transfer: oneOf('transfer', TRANSFERS),
    direct: flag('direct'),
    memoryMiB: args.wholeNumber('memory'),
    queues: args.wholeNumber('queues'),
    threads: args.wholeNumber('threads'),
    depth: args.wholeNumber('depth'),
    odd: flag('odd'),
    burners: args.wholeNumber('burners'),
    churn: flag('churn'),
    moves: flag('moves'),
  };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined)) as Fixed;
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

async function main(): Promise<void> {
  const { json } = args.values;
  const fixed = readFixed();
  const requests = args.wholeNumber('requests') ?? 1_000_000;
  const round = args.wholeNumber('round') ?? 50_000;
  const until = performance.now() + (args.wholeNumber('seconds') ?? Number.POSITIVE_INFINITY) * 1000;
  const seed = args.wholeNumber('seed') ?? Math.floor(Math.random() * 1e9);
  const results: Results = { seed, rounds: 0, requests: 0, reconnections: 0, moves: 0, checks: 0, seconds: 0 };
  while (results.requests < requests && performance.now() < until && !results.failure) {
    const setup = drawSetup(seed + results.rounds, Math.min(round, requests - results.requests), fixed);
    await runOne(setup, results);
  }
  if (json) writeFileSync(json, `${JSON.stringify(results, null, 2)}\n`);
  const { rounds, requests: answered, checks, reconnections, moves } = results;
  const around = `${reconnections} reconnections, ${moves} moves`;
  console.log(`${rounds} rounds, ${answered} requests, ${checks} checks at rest, ${around}`);
  // After a failure threads may wait for ever.
  if (results.failure) process.exit(1);
}

async function runOne(setup: Setup, results: Results): Promise<void> {
  const { seed, requests, ...drawn } = setup;
  const text = Object.entries(drawn).map(([key, value]) => `${key}=${value}`);
  console.log(`seed ${seed}: ${text.join(' ')}`);
  try {
    add(results, await runRound(setup, (answered) => progress(answered, requests)));
  } catch (error) {
    const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
    results.failure = { setup, message };
    // The options that make this round again.
    const again = args.again({ seed, requests, round: requests }, ['json', 'seconds']);
    console.log(`FAILED: ${message}\nagain: npm run fuzz -- ${again}`);
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

await main();
