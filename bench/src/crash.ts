/**
 * node dist/crash.js [options]: the daemon killed again and again under guests that verify. Every round is an emulated host
 * in a folder, its guests on threads, and the built program as a process that is killed with SIGKILL at any instant.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { HAPPENINGS, type Happening } from './crash/crash-host.js';
import { KINDS } from './crash/figures.js';
import { BREAKS, type Break, type RoundResult, runRound } from './crash/round.js';
import { drawSetup, type Setup, STORAGES, type Storage } from './crash/setup.js';
import { missingFor } from './crash/storage/images.js';
import { ProgramArguments } from './program/arguments.js';

const USAGE = `usage: npm run test:crash -- [options]

Kills the daemon again and again under guests that verify what they read. Rounds, each with a setup drawn from its seed:
SEED, SEED + 1, and so on.

  --kills N          kills in all; 500
  --round N          kills in a round; 100
  --seconds N        kills no more after that time, nor after SIGINT or SIGTERM
  --seed SEED        of the first round; drawn by chance. A failure names the seed of its round
  --storage LIST     what disks are on, with commas: ${STORAGES.join(', ')}; all that can be had
  --happenings LIST  besides kills: ${HAPPENINGS.join(', ')}; all, or none
  --patience N       seconds that anything may take, kills included; 60
  --break WHAT       journal: it is removed after each kill; storage: it loses a sector. To see that it is found
  --dir DIR          where images and logs go; the system's folder for temporary files
  --json FILE        writes results to FILE
  --help             this text

Examples:
  npm run test:crash                                     a few minutes of everything
  npm run test:crash -- --kills 10000 --storage threads  the long form, the thread engine only
  npm run test:crash -- --seed 7 --kills 100 --round 100 one round again
  npm run test:crash -- --break journal                  must fail

Exit codes: 0 nothing was lost, 1 something was, 2 usage.
`;

const args = new ProgramArguments(USAGE, [
  'kills',
  'round',
  'seconds',
  'seed',
  'patience',
  'storage',
  'happenings',
  'break',
  'dir',
  'json',
]);

function chosenStorages(): readonly Storage[] {
  const { storage } = args.values;
  if (storage !== undefined) {
    const named = storage.split(',') as Storage[];
    const unknown = named.find((name) => !STORAGES.includes(name));
    if (unknown !== undefined) args.refuse(`--storage is ${unknown}; expected ${STORAGES.join(', ')}`);
    for (const name of named) {
      const reason = missingFor(name);
      if (reason !== undefined) args.refuse(`--storage ${name} cannot be had: ${reason}`);
    }
    return named;
  }
  return STORAGES.filter((name) => {
    const reason = missingFor(name);
    if (reason !== undefined) console.log(`without ${name}: ${reason}`);
    return reason === undefined;
  });
}

function chosenHappenings(): readonly Happening[] {
  const { happenings } = args.values;
  if (happenings === undefined) return HAPPENINGS;
  if (happenings === 'none') return [];
  const named = happenings.split(',') as Happening[];
  const unknown = named.find((name) => !HAPPENINGS.includes(name));
  if (unknown !== undefined) args.refuse(`--happenings has ${unknown}; expected none, or of ${HAPPENINGS.join(', ')}`);
  return named;
}

function chosenBreak(): Break {
  const text = (args.values.break ?? 'none') as Break;
  if (!BREAKS.includes(text)) args.refuse(`--break is ${text}; expected ${BREAKS.join(', ')}`);
  return text;
}

interface Results extends Omit<RoundResult, 'pauses' | 'problems'> {
  seed: number;
  rounds: number;
  /** Milliseconds; over the lives that served. */
  pause: { p50: number; p99: number; longest: number };
  failure?: { setup: Setup; problems: readonly string[]; evidence: string };
}

async function main(): Promise<void> {
  const { values } = args;
  const storages = chosenStorages();
  const breaks = chosenBreak();
  const kills = args.wholeNumber('kills') ?? 500;
  const round = args.wholeNumber('round') ?? 100;
  const over = whenToStop(args.wholeNumber('seconds'));
  const seed = args.wholeNumber('seed') ?? Math.floor(Math.random() * 1e9);
  const happenings = chosenHappenings();
  const patienceMs = 1000 * (args.wholeNumber('patience') ?? 60);
  const base = mkdtempSync(join(values.dir ?? tmpdir(), 'xen-crash-'));
  const rounds: RoundResult[] = [];
  let failure: Results['failure'];
  const killed = () => rounds.reduce((sum, result) => sum + result.kills, 0);
  while (killed() < kills && !over.aborted && failure === undefined) {
    const setup = drawSetup(seed + rounds.length, storages);
    const here = Math.min(round, kills - killed());
    console.log(`seed ${setup.seed}: ${describe(setup)}`);
    const folder = join(base, String(setup.seed));
    const before = killed();
    const progress = (count: number) => showProgress(before + count, kills);
    const result = await runRound(setup, { kills: here, over, folder, breaks, happenings, patienceMs, progress });
    rounds.push(result);
    console.log(`  ${summary(result)} in ${result.seconds.toFixed(1)} s`);
    if (result.problems.length === 0) continue;
    failure = { setup, problems: result.problems, evidence: folder };
    // The options that make this round again.
    const again = args.again({ seed: setup.seed, kills: here, round: here }, ['json', 'seconds', 'dir']);
    console.log(`FAILED:\n  ${result.problems.join('\n  ')}`);
    console.log(`logs, images and journals: ${folder}\nagain: npm run test:crash -- ${again}`);
  }
  const results = sumOf(rounds, seed);
  if (failure) results.failure = failure;
  else rmSync(base, { recursive: true, force: true });
  if (values.json) writeFileSync(values.json, `${JSON.stringify(results, null, 2)}\n`);
  console.log(report(results));
  // After a failure threads may wait for ever.
  process.exit(failure === undefined ? 0 : 1);
}

/** After so many seconds, or at a signal: the round comes to its end then. A second signal ends the program at once. */
function whenToStop(seconds: number | undefined): AbortSignal {
  const over = new AbortController();
  if (seconds !== undefined) setTimeout(() => over.abort(), seconds * 1000).unref();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => over.abort());
  return over.signal;
}

function describe({ engine, threads, transfer, guests }: Setup): string {
  const disks = guests.map(({ storage, frontend, depth }) => {
    const { abi, ringPageOrder, queues, maxIndirectSegments } = frontend;
    return `${storage} ${abi} ${queues}x2^${ringPageOrder} indirect ${maxIndirectSegments} depth ${depth}`;
  });
  return `${engine} threads ${threads} ${transfer}; ${disks.join('; ')}`;
}

function summary({ kills, stops, served, recovered, verified }: RoundResult): string {
  const mebibytes = Math.round(verified / 2 ** 20);
  return `${kills} kills, ${stops} stops, ${served} lives served, ${recovered} requests recovered, ${mebibytes} MiB verified`;
}

function showProgress(done: number, kills: number): void {
  if (process.stderr.isTTY) process.stderr.write(`\r${done} of ${kills} kills \r`);
}

function sumOf(rounds: readonly RoundResult[], seed: number): Results {
  const sum = (of: (round: RoundResult) => number) => rounds.reduce((total, round) => total + of(round), 0);
  const pauses = rounds.flatMap((round) => round.pauses).sort((a, b) => a - b);
  const at = (share: number) => Math.round(pauses[Math.min(pauses.length - 1, Math.floor(share * pauses.length))] ?? 0);
  return {
    seed,
    rounds: rounds.length,
    kills: sum((round) => round.kills),
    killsAtStart: sum((round) => round.killsAtStart),
    stops: sum((round) => round.stops),
    served: sum((round) => round.served),
    recovering: sum((round) => round.recovering),
    recovered: sum((round) => round.recovered),
    happenings: sum((round) => round.happenings),
    operations: Object.fromEntries(
      KINDS.map((kind) => [kind, sum((round) => round.operations[kind])]),
    ) as Results['operations'],
    verified: sum((round) => round.verified),
    pause: { p50: at(0.5), p99: at(0.99), longest: at(1) },
    seconds: sum((round) => round.seconds),
  };
}

function report(results: Results): string {
  const { kills, killsAtStart, stops, served, recovering, recovered, happenings, operations, pause } = results;
  const requests = KINDS.map((kind) => `${operations[kind]} ${kind}`).join(', ');
  return [
    `${kills} kills, ${killsAtStart} of them while starting, and ${stops} planned stops; ${results.seconds.toFixed(0)} s`,
    `${served} lives served; ${recovering} took over ${recovered} requests in flight; ${happenings} happenings`,
    `operations: ${requests}; ${Math.round(results.verified / 2 ** 20)} MiB compared`,
    `longest pause of a life: p50 ${pause.p50} ms, p99 ${pause.p99} ms, longest ${pause.longest} ms`,
    `problems: ${results.failure?.problems.length ?? 0}`,
  ].join('\n');
}

await main();
