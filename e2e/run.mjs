/**
 * `npm run test:xen`: boots a real Xen under software emulation and runs the end-to-end tests in its dom0.
 * Ends with a line `N passed, N failed`. Options: see USAGE.
 */
import { availableParallelism, freemem } from 'node:os';
import { readArguments, usageError } from '../scripts/lib/program.mjs';
import { StepError } from '../scripts/lib/steps.mjs';
import { SUITES } from './lab/lab.mjs';
import { COMMON_OPTIONS, COMMON_USAGE, labOf, prepare, runInDom0, say, shellInDom0 } from './machine/session.mjs';

/** Of the test that is named "kills". */
const KILLS = 4;
/** How long a kill takes, with what comes after it, on a slow machine. */
const KILL_SECONDS = 30;

/** dom0 of this release has systemd too. */
const SYSTEMD_RELEASE = '4.20';

const USAGE = `usage: npm run test:xen -- [options] [NAME ...]

  NAME             only the tests whose name contains it
  --xen X          only this release of Xen: ${Object.keys(SUITES).sort().reverse().join(', ')}
  --systemd        dom0 boots systemd, on Xen ${SYSTEMD_RELEASE}: the tests of the package for Debian and its unit
  --shell          a shell in dom0 instead of the tests (with --xen)
  --list           print the names of the tests
  --kills N        how often "kills" kills the daemon (default: ${KILLS})
  --seed N         with --kills: the same instants again
  --long           more of what takes long: all combinations, layouts and repetitions
  --minutes N      what would not end within N minutes is not begun, and told of: a test not run is no failure then
  --machines N     so many at once, each of which needs two processors and 6 GiB (default: as many as fit here)
${COMMON_USAGE}`;

/** The first is the main one; the others run what differs between releases. */
const RELEASES = ['4.20', '4.17'];
const MINUTES = { '4.20': 60, 4.17: 30, systemd: 45 };
/** Of a given time, what is kept for the releases that come after the main one. */
const KEPT_MINUTES = 15;
/** For a test that takes longer than was expected when it began: the machine is stopped only then. */
const SPARE_MINUTES = 2;
/** The tests where dom0 has the lab's own first process, in two halves that take about as long. */
const HALVES = ['ways', 'days'];
/** Each of its processors is a thread: with fewer of them here, its tests take three times as long, and some too long. */
const MACHINE_PROCESSORS = 2;
const MACHINE_BYTES = 6 * 2 ** 30;

const flag = { type: 'boolean', default: false };
const number = { type: 'string' };
const { values, positionals: filters } = readArguments(
  USAGE,
  {
    ...COMMON_OPTIONS,
    xen: { type: 'string' },
    systemd: flag,
    shell: flag,
    list: flag,
    long: flag,
    kills: number,
    seed: number,
    minutes: number,
    machines: number,
  },
  { positionals: true },
);
if (values.systemd && values.xen && values.xen !== SYSTEMD_RELEASE) {
  usageError(USAGE, `dom0 with systemd is of Xen ${SYSTEMD_RELEASE}, not ${values.xen}`);
}
if (values.xen && !SUITES[values.xen]) usageError(USAGE, `no lab for Xen ${values.xen}`);
const kills = wholeNumber('kills', KILLS);
const seed = wholeNumber('seed', Date.now() % 1_000_000);
const givenMinutes = wholeNumber('minutes', Number.POSITIVE_INFINITY);
const fitting = Math.min(availableParallelism() / MACHINE_PROCESSORS, freemem() / MACHINE_BYTES);
const atOnce = wholeNumber('machines', Math.max(1, Math.floor(fitting)));
const totals = { passed: 0, failed: 0, skipped: 0 };
let interrupted = false;

/** The value of an option that is a number. */
function wholeNumber(name, otherwise) {
  if (values[name] === undefined) return otherwise;
  const number = Number(values[name]);
  if (!Number.isSafeInteger(number) || number < 1)
    usageError(USAGE, `--${name} ${values[name]}: not a number from 1 on`);
  return number;
}

/** The machines to boot, the longest first: the release of Xen, which part of the tests, dom0's first process. */
function machines() {
  if (values.systemd)
    return [{ xen: SYSTEMD_RELEASE, init: 'systemd', parts: ['systemd'], name: `${SYSTEMD_RELEASE}-systemd` }];
  const releases = values.xen ? [values.xen] : RELEASES;
  return releases.flatMap((xen) => {
    // A few tests are not worth two boots, nor are halves that would have to wait for each other.
    if (filters.length > 0 || values.list || atOnce === 1) return [{ xen, init: 'lab', parts: HALVES, name: xen }];
    return HALVES.map((part) => ({ xen, init: 'lab', parts: [part], name: `${xen}-${part}` }));
  });
}

/** How many minutes a machine that boots now may run. */
function minutesFor({ xen, init }) {
  const most = (MINUTES[init] ?? MINUTES[xen]) + ((kills - KILLS) * KILL_SECONDS) / 60;
  const isFollowed = !values.xen && !values.systemd && xen === RELEASES[0];
  const kept = isFollowed ? KEPT_MINUTES : 0;
  return Math.min(most, givenMinutes - performance.now() / 60_000 - kept);
}

/** Runs the tests of one machine; every test that did not report counts as failed. */
async function testMachine({ xen, init, parts, name }) {
  // What that takes is not the machine's time.
  await labOf(xen);
  const minutes = minutesFor({ xen, init });
  const began = performance.now();
  const open = new Set();
  const failures = [];
  const seconds = Number.isFinite(givenMinutes) ? (minutes - SPARE_MINUTES) * 60 : undefined;
  const program = {
    program: 'tests',
    init,
    parts,
    filters,
    list: values.list,
    long: values.long,
    kills,
    seed,
    seconds,
  };
  const result = await runInDom0(xen, program, {
    name,
    minutes: Math.max(minutes, 1),
    keep: ({ ended }) => values.keep || failures.length + open.size > 0 || !ended,
    onReport: (report) => onReport(report, { xen, open, failures }),
  });
  totals.failed += open.size;
  if (!result.ended) {
    if (open.size === 0) totals.failed++;
    console.log(`FAIL  Xen ${xen}: ${result.reason}; not run: ${[...open].join(', ') || 'nothing'}`);
    console.log(result.console);
  }
  say(`Xen ${name}: ${((performance.now() - began) / 60_000).toFixed(1)} minutes`);
  if (result.interrupted) interrupted = true;
}

function onReport(report, { xen, open, failures }) {
  if (report.type === 'plan') {
    for (const name of values.list ? [] : report.names) open.add(name);
    for (const name of values.list ? report.names : []) console.log(name);
  } else if (report.type === 'skipped') {
    open.delete(report.name);
    totals.skipped++;
    console.log(`SKIP  Xen ${xen}: ${report.name}: too little is left of the ${givenMinutes} minutes`);
  } else if (report.type === 'test') {
    open.delete(report.name);
    // Told as what it is: a test that fails at times is a fault too, of itself or of what it tests.
    if (report.again && report.ok) totals.failed--;
    if (!report.again || report.ok) totals[report.ok ? 'passed' : 'failed']++;
    const time = `(${(report.ms / 1000).toFixed(1)} s)`;
    const passed = report.again ? 'UNSTEADY, passed at the second try:' : 'ok   ';
    console.log(
      `${report.ok ? passed : 'FAIL '} Xen ${xen}: ${report.name} ${time}${report.note ? `: ${report.note}` : ''}`,
    );
    if (report.ok) return;
    failures.push(report.name);
    console.log(report.error.replace(/^/gm, '        '));
  }
}

async function main() {
  await prepare(values);
  if (values.shell) return shellInDom0(values.xen ?? RELEASES[0]);
  const queue = machines();
  const work = async () => {
    while (queue.length > 0 && !interrupted) await testMachine(queue.shift());
  };
  // All of them, also when one cannot start: its tests are told of last.
  const ended = await Promise.allSettled(Array.from({ length: atOnce }, work));
  for (const { reason } of ended) if (reason) throw reason;
  if (values.list) return;
  if (totals.skipped > 0) console.log(`\n${totals.skipped} not run for want of time`);
  console.log(`\n${totals.passed} passed, ${totals.failed} failed`);
  if (totals.failed > 0 || totals.passed === 0) process.exitCode = 1;
}

try {
  await main();
} catch (error) {
  console.log(error instanceof StepError ? lastLines(error.output) : error.stack);
  console.log(`FAIL  the Xen lab: ${error.message}`);
  console.log(`\n${totals.passed} passed, ${totals.failed + 1} failed`);
  process.exitCode = 1;
}

function lastLines(text, count = 20) {
  return text.trimEnd().split('\n').slice(-count).join('\n');
}
