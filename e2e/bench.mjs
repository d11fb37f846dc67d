/**
 * `npm run bench:xen`: the scoreboard. One boot of a real Xen under emulation, in which one guest runs the same jobs
 * on a disk each of Linux's xen-blkback, QEMU's qdisk and xen-blockd, and of a program that does the least: the floor.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readArguments, runMain, usageError } from '../scripts/lib/program.mjs';
import { StepError } from '../scripts/lib/steps.mjs';
import { ratios, scoreboard } from './bench/scoreboard.mjs';
import { stepTable } from './bench/trace-table.mjs';
import { COMMON_OPTIONS, COMMON_USAGE, prepare, runInDom0, say } from './machine/session.mjs';

/** Of bench/storages.mjs, which runs in dom0. */
const STORAGES = ['raw', 'qcow2', 'nbd'];

const USAGE = `usage: npm run bench:xen -- [options]

  --json FILE      write the results to FILE
  --quick          one round of short jobs
  --rounds N       rounds (default 3)
  --seconds N      seconds of a job (default 8)
  --storage KIND   what the disks are on: ${STORAGES.join(', ')} (default: ${STORAGES[0]}); the last two beside qdisk only
  --backends LIST  only these, separated by commas: xen-blkback,qdisk,xen-blockd,floor,null
  --jobs LIST      only these: rr1,rr32,rw32,sr,sw
  --args=TEXT      more arguments for xen-blockd run
  --profile        profile xen-blockd: a .cpuprofile among the logs
  --trace          after the rounds: what dom0 does in half a second of each job, step by step, from the kernel's tracer
${COMMON_USAGE}`;
const XEN = '4.20';

const text = { type: 'string' };
const flag = { type: 'boolean', default: false };
const flags = { quick: flag, profile: flag, trace: flag };
const texts = { storage: text, json: text, rounds: text, seconds: text, backends: text, jobs: text, args: text };
const { values } = readArguments(USAGE, { ...COMMON_OPTIONS, ...flags, ...texts });

const { storage = STORAGES[0] } = values;
if (!STORAGES.includes(storage)) usageError(USAGE, `--storage ${storage}: expected ${STORAGES.join(', ')}`);

await runMain(async () => {
  await prepare(values);
  const program = {
    program: 'bench',
    rounds: Number(values.rounds ?? (values.quick ? 1 : 3)),
    seconds: Number(values.seconds ?? (values.quick ? 4 : 8)),
    backends: values.backends?.split(','),
    jobs: values.jobs?.split(','),
    args: values.args ?? '',
    profile: values.profile,
    trace: values.trace,
    storage,
  };
  const jobs = [];
  const { ended, reason, logs } = await runInDom0(XEN, program, {
    name: 'bench',
    minutes: 12 + ((program.rounds + 1) * 25 * (program.seconds + 12)) / 60,
    keep: (result) => values.keep || values.profile || values.trace || !result.ended,
    onReport: ({ type, ...results }) => {
      if (type !== 'measured') return;
      jobs.push(results);
      say(`round ${results.round} ${results.job} ${results.backend}: ${results.iops} IOPS, ${results.mbps} MB/s`);
    },
  });
  if (jobs.length > 0) console.log(scoreboard(jobs));
  if (logs && values.trace) printTraces(logs);
  if (values.json) writeFileSync(values.json, `${JSON.stringify({ jobs, ratios: ratios(jobs) }, undefined, 1)}\n`);
  if (!ended || jobs.length === 0) throw new StepError('bench', reason ?? 'nothing was measured');
});

function printTraces(logs) {
  for (const file of readdirSync(logs).filter((name) => name.startsWith('trace-'))) {
    console.log(`\n${file}\n${stepTable(readFileSync(join(logs, file), 'utf8'))}`);
  }
}
