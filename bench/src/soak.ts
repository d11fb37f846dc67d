/**
 * node dist/soak.js [options]: one daemon for a long time, under guests that verify what they read, reboot, crash, are
 * destroyed and made anew, have disks attached and detached; and what it holds meanwhile, which must not grow.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { HAPPENINGS } from './crash/crash-host.js';
import { drawSetup, type Setup, STORAGES } from './crash/setup.js';
import { missingFor } from './crash/storage/images.js';
import { ProgramArguments } from './program/arguments.js';
import type { Sample } from './soak/sample.js';
import { type SoakResult, soak } from './soak/soak.js';

const USAGE = `usage: npm run test:soak -- [options]

One daemon under guests that work, come and go, on every kind of storage; once a lap, at rest, it is counted what there is
of memory, descriptors, threads, watches, nodes, grants, ports and files. Nothing may grow.

  --minutes N     how long; 60
  --lap N         seconds from one count to the next; 30
  --seed SEED     of what happens; drawn by chance
  --patience N    seconds that anything may take; 120
  --dir DIR       where images and logs go; the system's folder for temporary files
  --json FILE     writes results, with all counts, to FILE
  --help          this text

Examples:
  npm run test:soak                          an hour
  npm run test:soak -- --minutes 2 --lap 5   a short one

SIGINT and SIGTERM end it in order, with the results so far.
Exit codes: 0 nothing was lost and nothing has grown, 1 something was or has, 2 usage.
`;

const args = new ProgramArguments(USAGE, ['minutes', 'lap', 'seed', 'patience', 'dir', 'json']);

async function main(): Promise<void> {
  const { values } = args;
  const minutes = args.wholeNumber('minutes') ?? 60;
  const lapMs = 1000 * (args.wholeNumber('lap') ?? 30);
  const patienceMs = 1000 * (args.wholeNumber('patience') ?? 120);
  const setup = soakSetup(args.wholeNumber('seed') ?? Math.floor(Math.random() * 1e9));
  const over = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => over.abort());
  const base = mkdtempSync(join(values.dir ?? tmpdir(), 'xen-soak-'));
  const folder = join(base, String(setup.seed));
  const disks = setup.guests.map(({ storage }) => storage).join(', ');
  console.log(`seed ${setup.seed}: ${setup.engine} threads ${setup.threads} ${setup.transfer}; disks on ${disks}`);
  const milliseconds = 60_000 * minutes;
  // Each snapshot is one more file that a helper has open.
  const happenings = HAPPENINGS.filter((what) => what !== 'snapshot');
  const options = { setup, folder, happenings, patienceMs, milliseconds, lapMs, over: over.signal };
  const result = await soak({ ...options, progress: (sample) => console.log(line(sample)) });
  if (values.json) writeFileSync(values.json, `${JSON.stringify({ seed: setup.seed, ...result }, null, 2)}\n`);
  const failed = [...result.problems, ...result.grown];
  if (failed.length === 0) rmSync(base, { recursive: true, force: true });
  console.log(report(result));
  if (failed.length > 0) console.log(`FAILED:\n  ${failed.join('\n  ')}\nlogs: ${folder}`);
  // After a failure threads may wait for ever.
  process.exit(failed.length === 0 ? 0 : 1);
}

/** A setup with as many kinds of storage as there are guests, of those that can be had. */
function soakSetup(seed: number): Setup {
  const there = STORAGES.filter((name) => missingFor(name) === undefined);
  const setup = drawSetup(seed, there);
  const served = there.filter((name) => name !== 'threads' && name !== 'io_uring');
  const storages = [setup.engine, ...served];
  const guests = setup.guests.map((guest, number) => ({ ...guest, storage: storages[number % storages.length] }));
  return { ...setup, threads: 2, guests };
}

function line({ seconds, happenings, memoryMiB, helperMemoryMiB, counts }: Sample): string {
  const { descriptors, threads, watches, nodes, grants, mapped, ports } = counts;
  const memory = `${memoryMiB} MiB, helpers ${helperMemoryMiB} MiB`;
  const rest = `${watches} watches, ${nodes} nodes, ${grants} grants, ${mapped} mapped, ${ports} ports`;
  return `${seconds} s, ${happenings} happenings: ${memory}, ${descriptors} descriptors, ${threads} threads, ${rest}`;
}

function report({ samples, happenings, operations, verified, problems, grown, seconds }: SoakResult): string {
  const requests = Object.entries(operations).map(([kind, count]) => `${count} ${kind}`);
  return [
    `${seconds.toFixed(0)} s, ${happenings} happenings, ${samples.length} counts`,
    `operations: ${requests.join(', ')}; ${Math.round(verified / 2 ** 20)} MiB compared`,
    `problems: ${problems.length}; grown: ${grown.length}`,
  ].join('\n');
}

await main();
