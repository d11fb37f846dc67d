/**
 * `npm run bench:xen`: the scoreboard. One boot of a real Xen under emulation, in which one guest runs the same jobs
 * on a RAM disk each of Linux's xen-blkback, QEMU's qdisk and xen-blockd.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ensureLab } from './lib/lab.mjs';
import { keepLogs } from './lib/logs.mjs';
import { runMachine } from './lib/machine.mjs';
import { makeReady } from './lib/project.mjs';
import { ratios, scoreboard } from './lib/scoreboard.mjs';
import { stepTable } from './lib/steps.mjs';

const USAGE = `usage: npm run bench:xen -- [options]
  --json FILE      write the figures to FILE
  --quick          one round of short jobs
  --rounds N       rounds (default 3)
  --seconds N      seconds of a job (default 8)
  --backends LIST  only these, separated by commas: xen-blkback,qdisk,xen-blockd
  --jobs LIST      only these: rr1,rr32,rw32,sr,sw
  --args=TEXT      more arguments for xen-blockd run
  --profile        profile xen-blockd: a .cpuprofile among the logs
  --trace          after the rounds: what dom0 does in half a second of each job, step by step, from the kernel's tracer
  --keep           keep the logs, in e2e/logs
  --no-setup       take the packages as they are built`;
const XEN = '4.20';

const say = (text) => process.stderr.write(`xen lab: ${text}\n`);

function options() {
  const text = { type: 'string' };
  const flag = { type: 'boolean', default: false };
  try {
    const flags = { quick: flag, keep: flag, profile: flag, trace: flag, help: flag, 'no-setup': flag };
    const texts = { json: text, rounds: text, seconds: text, backends: text, jobs: text, args: text };
    return parseArgs({ options: { ...flags, ...texts } }).values;
  } catch (error) {
    process.stderr.write(`${error.message}\n${USAGE}\n`);
    return process.exit(2);
  }
}

const values = options();
if (values.help) {
  console.log(USAGE);
  process.exit(0);
}

async function main() {
  if (!values['no-setup']) await makeReady(say);
  const run = {
    program: 'bench',
    rounds: Number(values.rounds ?? (values.quick ? 1 : 3)),
    seconds: Number(values.seconds ?? (values.quick ? 4 : 8)),
    backends: values.backends?.split(','),
    jobs: values.jobs?.split(','),
    args: values.args ?? '',
    profile: values.profile,
    trace: values.trace,
  };
  const lab = await ensureLab(XEN, say);
  const folder = mkdtempSync(join(tmpdir(), 'xen-bench-'));
  const interrupt = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM']) process.once(name, () => interrupt.abort());
  const jobs = [];
  const minutes = 12 + ((run.rounds + 1) * 15 * (run.seconds + 12)) / 60;
  const onReport = (report) => {
    if (report.type === 'log') say(`dom0: ${report.text}`);
    if (report.type !== 'measured') return;
    const { type, ...figures } = report;
    jobs.push(figures);
    say(`round ${figures.round} ${figures.job} ${figures.backend}: ${figures.iops} IOPS, ${figures.mbps} MB/s`);
  };
  say(`booting Xen ${XEN}`);
  const { ended, reason } = await runMachine(lab, folder, run, { minutes, signal: interrupt.signal, onReport });
  const keep = values.keep || values.profile || values.trace || !ended;
  const logs = keep ? await keepLogs(folder, 'bench') : undefined;
  rmSync(folder, { recursive: true, force: true });
  if (logs) say(`logs: ${logs}`);
  if (jobs.length > 0) console.log(scoreboard(jobs));
  if (logs && values.trace) printTraces(logs);
  if (values.json) writeFileSync(values.json, `${JSON.stringify({ jobs, ratios: ratios(jobs) }, undefined, 1)}\n`);
  if (ended && jobs.length > 0) return;
  say(`failed: ${reason ?? 'nothing was measured'}`);
  process.exitCode = 1;
}

function printTraces(logs) {
  for (const file of readdirSync(logs).filter((name) => name.startsWith('trace-'))) {
    console.log(`\n${file}\n${stepTable(readFileSync(join(logs, file), 'utf8'))}`);
  }
}

await main();
