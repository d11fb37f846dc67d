/**
 * `npm run test:xen`: boots a real Xen under software emulation and runs the end-to-end tests in its dom0.
 * Ends with a line `N passed, N failed`. Options: see USAGE.
 */
import { readArguments, usageError } from '../scripts/lib/program.mjs';
import { StepError } from '../scripts/lib/steps.mjs';
import { SUITES } from './lab/lab.mjs';
import { COMMON_OPTIONS, COMMON_USAGE, prepare, runInDom0, say, shellInDom0 } from './machine/session.mjs';

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
${COMMON_USAGE}`;

/** The first is the main one; the others run what differs between releases. */
const RELEASES = ['4.20', '4.17'];
const MINUTES = { '4.20': 50, 4.17: 20, systemd: 45 };

const flag = { type: 'boolean', default: false };
const number = { type: 'string' };
const { values, positionals: filters } = readArguments(
  USAGE,
  { ...COMMON_OPTIONS, xen: { type: 'string' }, systemd: flag, shell: flag, list: flag, kills: number, seed: number },
  { positionals: true },
);
if (values.systemd && values.xen && values.xen !== SYSTEMD_RELEASE) {
  usageError(USAGE, `dom0 with systemd is of Xen ${SYSTEMD_RELEASE}, not ${values.xen}`);
}
if (values.xen && !SUITES[values.xen]) usageError(USAGE, `no lab for Xen ${values.xen}`);
const kills = wholeNumber('kills', KILLS);
const seed = wholeNumber('seed', Date.now() % 1_000_000);
const totals = { passed: 0, failed: 0 };

/** The value of an option that is a number. */
function wholeNumber(name, otherwise) {
  if (values[name] === undefined) return otherwise;
  const number = Number(values[name]);
  if (!Number.isSafeInteger(number) || number < 1)
    usageError(USAGE, `--${name} ${values[name]}: not a number from 1 on`);
  return number;
}

/** The machines to boot: releases of Xen, and what dom0's first process is. */
function machines() {
  const releases = values.xen ? [values.xen] : RELEASES;
  if (values.systemd) return [{ xen: SYSTEMD_RELEASE, init: 'systemd' }];
  return releases.map((xen) => ({ xen, init: 'lab' }));
}

/** Runs the tests of one machine; every test that did not report counts as failed. Resolves with whether to go on. */
async function testMachine({ xen, init }) {
  const name = init === 'lab' ? xen : `${xen}-${init}`;
  const began = performance.now();
  const open = new Set();
  const failures = [];
  const program = { program: 'tests', init, filters, list: values.list, kills, seed };
  const result = await runInDom0(xen, program, {
    name,
    minutes: (MINUTES[init] ?? MINUTES[xen]) + ((kills - KILLS) * KILL_SECONDS) / 60,
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
  return !result.interrupted;
}

function onReport(report, { xen, open, failures }) {
  if (report.type === 'plan') {
    for (const name of values.list ? [] : report.names) open.add(name);
    for (const name of values.list ? report.names : []) console.log(name);
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
  for (const machine of machines()) if (!(await testMachine(machine))) break;
  if (values.list) return;
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
