/**
 * node dist/hostile.js [options]: guests that do whatever a guest can do, and know what must become of it; the backend
 * serves them from files or memory, in every way there is.
 */
import { writeFileSync } from 'node:fs';
import { LIFE_ENDS } from './hostile/guest/plan.js';
import { type RoundResult, runRound } from './hostile/host/round.js';
import { drawSetup, ENGINES, type Fixed, isSlow, type Setup, TRANSFERS } from './hostile/host/setup.js';
import { moreThan, processTraces } from './hostile/host/traces.js';
import { ProgramArguments } from './program/arguments.js';

const USAGE = `usage: npm run test:hostile -- [options]

Rounds of requests, each with a setup drawn from its seed: SEED, SEED + 1, and so on. Hostile guests and a victim, on a
host of their own in each round; connections end well, or by ${LIFE_ENDS.join(', ')}.

  --requests N       requests of hostile guests in all; 1000000
  --round N          requests in a round; 400000, 40000 where one takes long, 8000 where storage hangs
  --seconds T        begins no round after that time
  --seed SEED        of the first round; drawn by chance. A failure names the seed of its round
  --json FILE        writes results to FILE
  --help             this text

Fixed in all rounds, instead of drawn:
  --engine memory | io_uring | threads | power-cut | nbd
  --transfer copy | map | persistent
  --direct 0 | 1     past the page cache
  --memory MIB       the backend's buffer memory
  --guests N         hostile guests
  --lives N          connections of each of them
  --queues N         rings of a disk, 1 to 4, at most
  --threads N        worker threads of the backend
  --guest-threads 0 | 1    guests on the backend's own thread, or on two others
  --depth N          requests in flight on each ring
  --odd 0 | 1        storage that ends operations late and in any order, hangs, fails some, and lies about others
  --hangs 0 | 1      storage that answers some operations seconds later, for which nobody waits
  --races 0 | 1      words of requests are exchanged after they were sent
  --scribbles 0 | 1  what is the backend's in a ring's header is written to
  --burners N        threads that only use the processor
  --moves 0 | 1      rings are detached and attached again, on another thread if there is one
  --take-overs 0 | 1       another backend takes over from time to time
  --patience S       seconds until a ring counts as dead; 20
  --victim MS        what the victim's p99 must be below on a machine that nobody else uses; 2000
`;

const QUICK_ROUND = 400_000;
const SLOW_ROUND = 40_000;
/** Seconds pass in which storage does nothing. */
const HANGING_ROUND = 8_000;

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
  'guests',
  'lives',
  'queues',
  'threads',
  'guest-threads',
  'depth',
  'odd',
  'hangs',
  'races',
  'scribbles',
  'burners',
  'moves',
  'take-overs',
  'patience',
  'victim',
]);

function oneOf<T extends string>(name: 'engine' | 'transfer', all: readonly T[]): T | undefined {
  const text = args.values[name];
  if (text !== undefined && !all.includes(text as T)) args.refuse(`--${name} is ${text}; expected ${all.join(', ')}`);
  return text as T | undefined;
}

function flag(name: 'direct' | 'odd' | 'hangs' | 'races' | 'scribbles' | 'moves' | 'take-overs'): boolean | undefined {
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
    guests: args.wholeNumber('guests'),
    lives: args.wholeNumber('lives'),
    queues: args.wholeNumber('queues'),
    threads: args.wholeNumber('threads'),
    guestThreads: args.wholeNumber('guest-threads'),
    depth: args.wholeNumber('depth'),
    odd: flag('odd'),
    hangs: flag('hangs'),
    races: flag('races'),
    scribbles: flag('scribbles'),
    burners: args.wholeNumber('burners'),
    moves: flag('moves'),
    takeOvers: flag('take-overs'),
    patienceSeconds: args.wholeNumber('patience'),
    victimMs: args.wholeNumber('victim'),
  };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined)) as Fixed;
}

interface Results {
  seed: number;
  rounds: number;
  requests: number;
  /** Requests of the victim. */
  verified: number;
  lives: number;
  refused: number;
  moves: number;
  takeOvers: number;
  /** Requests that were in flight when a backend's process ended. */
  leftInFlight: number;
  checks: number;
  logged: number;
  /** The slowest of the rounds, in milliseconds. */
  victimP99: number;
  seconds: number;
  failure?: { setup: Setup; message: string };
}

async function main(): Promise<void> {
  const { json } = args.values;
  const fixed = readFixed();
  const requests = args.wholeNumber('requests') ?? 1_000_000;
  const round = args.wholeNumber('round');
  const until = performance.now() + (args.wholeNumber('seconds') ?? Number.POSITIVE_INFINITY) * 1000;
  const seed = args.wholeNumber('seed') ?? Math.floor(Math.random() * 1e9);
  const counts = {
    rounds: 0,
    requests: 0,
    verified: 0,
    lives: 0,
    refused: 0,
    moves: 0,
    takeOvers: 0,
    leftInFlight: 0,
    checks: 0,
    logged: 0,
    victimP99: 0,
    seconds: 0,
  };
  const results: Results = { seed, ...counts };
  while (results.requests < requests && performance.now() < until && !results.failure) {
    const setup = drawSetup(seed + results.rounds, 0, fixed);
    const most = round ?? mostRequests(setup);
    await runOne({ ...setup, requests: Math.min(most, requests - results.requests) }, results);
  }
  if (json) writeFileSync(json, `${JSON.stringify(results, null, 2)}\n`);
  const { rounds, lives, refused, moves, takeOvers, checks, victimP99, seconds } = results;
  const around = `${lives} connections, ${refused} refused, ${moves} moves, ${takeOvers} takeovers, ${results.leftInFlight} left in flight, ${checks} checks at rest`;
  console.log(`${rounds} rounds, ${results.requests} requests in ${seconds.toFixed(0)} s, ${around}`);
  console.log(`the victim: ${results.verified} requests, its p99 was ${victimP99.toFixed(1)} ms in its worst round`);
  // After a failure threads may wait for ever.
  if (results.failure) process.exit(1);
}

function mostRequests(setup: Setup): number {
  if (setup.hangs) return HANGING_ROUND;
  return isSlow(setup) ? SLOW_ROUND : QUICK_ROUND;
}

async function runOne(setup: Setup, results: Results): Promise<void> {
  const { seed, requests, ...drawn } = setup;
  const text = Object.entries(drawn).map(([key, value]) => `${key}=${value}`);
  console.log(`seed ${seed}: ${text.join(' ')}`);
  try {
    const round = await runRound(setup);
    add(results, round);
    checkProcess(results.rounds, round.leftInFlight > 0);
  } catch (error) {
    const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
    results.failure = { setup, message };
    // The options that make this round again.
    const again = args.again({ seed, requests, round: requests }, ['json', 'seconds']);
    console.log(`FAILED: ${message}\nagain: npm run test:hostile -- ${again}`);
  }
}

let most = processTraces();
const SETTLED_AFTER = 5;
/** Some setups need more than others. */
const ROOM = 16;
const ROOM_MIB = 256;
/** Memory that is free and not given back yet looks like a leak after one round. */
const ROUNDS_OF_LEAK = 3;
let larger = 0;

/** Nothing of a round stays in the process. What is made once, and kept, is there after the first ones. */
function checkProcess(rounds: number, playedAnEnd: boolean): void {
  const now = processTraces();
  // Of a process whose end is only played, its memory stays.
  if (rounds <= SETTLED_AFTER || playedAnEnd) {
    most = {
      descriptors: Math.max(most.descriptors, now.descriptors),
      threads: Math.max(most.threads, now.threads),
      bufferMiB: Math.max(most.bufferMiB, now.bufferMiB),
      memoryMiB: Math.max(most.memoryMiB, now.memoryMiB),
    };
  }
  larger = now.memoryMiB > most.memoryMiB + ROOM_MIB ? larger + 1 : 0;
  const room = {
    descriptors: most.descriptors + ROOM,
    threads: most.threads + ROOM,
    bufferMiB: most.bufferMiB + ROOM_MIB,
    memoryMiB: larger < ROUNDS_OF_LEAK ? Number.POSITIVE_INFINITY : most.memoryMiB + ROOM_MIB,
  };
  const more = moreThan(room, now);
  if (more !== undefined) throw new Error(`something of the round is left in the process: ${more}`);
}

function add(results: Results, round: RoundResult): void {
  const { answered, verified, lives, refused, moves, takeOvers, checks, logged, victim, share, seconds } = round;
  results.verified += verified;
  results.rounds++;
  results.requests += answered;
  results.lives += lives;
  results.refused += refused;
  results.moves += moves;
  results.takeOvers += takeOvers;
  results.leftInFlight += round.leftInFlight;
  results.checks += checks;
  results.logged += logged;
  results.victimP99 = Math.max(results.victimP99, victim.p99);
  results.seconds += seconds;
  const latency = `the victim's median ${victim.p50.toFixed(2)}, p99 ${victim.p99.toFixed(2)} ms, with ${Math.round(100 * share)} % of the processor`;
  console.log(`  ${answered} requests, ${lives} connections in ${seconds.toFixed(1)} s; ${latency}`);
}

await main();
