/**
 * `npm run test:xen`: boots a real Xen under software emulation and runs the end-to-end tests in its dom0.
 * Ends with a line `N passed, N failed`. Options: see USAGE.
 */
import { appendFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { EnvironmentError, logged } from './lib/host.mjs';
import { ensureLab, SUITES } from './lib/lab.mjs';
import { keepLogs } from './lib/logs.mjs';
import { runMachine, shellMachine } from './lib/machine.mjs';
import { makeReady } from './lib/project.mjs';

const USAGE = `usage: npm run test:xen -- [options] [NAME ...]
  NAME          only the tests whose name contains it
  --xen X       only this release of Xen: ${Object.keys(SUITES).sort().reverse().join(', ')}
  --shell       a shell in dom0 instead of the tests (with --xen)
  --keep        keep the logs, in e2e/logs
  --no-setup    take the packages as they are built
  --list        print the names of the tests`;

/** The first is the main one; the others run what differs between releases. */
const RELEASES = ['4.20', '4.17'];
const MINUTES = { '4.20': 40, 4.17: 20 };

const say = (text) => process.stderr.write(`xen lab: ${text}\n`);

function options() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        xen: { type: 'string' },
        shell: { type: 'boolean', default: false },
        keep: { type: 'boolean', default: false },
        list: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
        'no-setup': { type: 'boolean', default: false },
      },
    });
  } catch (error) {
    return usageError(error.message);
  }
}

function usageError(message) {
  process.stderr.write(`${message}\n${USAGE}\n`);
  process.exit(2);
}

const { values, positionals: filters } = options();
if (values.help) {
  console.log(USAGE);
  process.exit(0);
}
if (values.xen && !SUITES[values.xen]) usageError(`no lab for Xen ${values.xen}`);
const totals = { passed: 0, failed: 0 };
const interrupt = new AbortController();
for (const name of ['SIGINT', 'SIGTERM']) process.once(name, () => interrupt.abort());

/** Runs the tests of one release; every test that did not report counts as failed. */
async function testRelease(xen) {
  const lab = await ensureLab(xen, say);
  const folder = mkdtempSync(join(tmpdir(), 'xen-lab-'));
  const began = performance.now();
  const open = new Set();
  const failures = [];
  say(`booting Xen ${xen}`);
  const result = await runMachine(
    lab,
    folder,
    { program: 'tests', xen, filters, list: values.list },
    {
      minutes: MINUTES[xen],
      signal: interrupt.signal,
      onReport: (report) => onReport(report, { xen, open, failures, folder }),
    },
  );
  for (const name of open) failures.push(name);
  totals.failed += open.size;
  if (!result.ended) {
    if (open.size === 0) totals.failed++;
    console.log(`FAIL  Xen ${xen}: ${result.reason}; not run: ${[...open].join(', ') || 'nothing'}`);
    console.log(await tail(join(folder, 'console.log')));
  }
  if (values.keep || failures.length > 0 || !result.ended) say(`logs: ${await keepLogs(folder, xen)}`);
  rmSync(folder, { recursive: true, force: true });
  say(`Xen ${xen}: ${((performance.now() - began) / 60_000).toFixed(1)} minutes`);
}

function onReport(report, { xen, open, failures, folder }) {
  if (report.type === 'plan') {
    for (const name of report.names) open.add(name);
    if (values.list) for (const name of report.names) console.log(name);
  } else if (report.type === 'evidence') {
    appendFileSync(join(folder, 'failures.log'), `${report.text}\n\n`);
  } else if (report.type === 'log') {
    say(`dom0: ${report.text}`);
  } else if (report.type === 'test') {
    open.delete(report.name);
    totals[report.ok ? 'passed' : 'failed']++;
    const time = `(${(report.ms / 1000).toFixed(1)} s)`;
    console.log(
      `${report.ok ? 'ok   ' : 'FAIL '} Xen ${xen}: ${report.name} ${time}${report.note ? `: ${report.note}` : ''}`,
    );
    if (report.ok) return;
    failures.push(report.name);
    console.log(report.error.replace(/^/gm, '        '));
  }
}

const tail = (file) => logged('tail', ['-n', '30', file]).catch(() => '');

async function main() {
  if (!values['no-setup']) await makeReady(say);
  if (values.shell) {
    const lab = await ensureLab(values.xen ?? RELEASES[0], say);
    const folder = mkdtempSync(join(tmpdir(), 'xen-lab-'));
    await shellMachine(lab, folder, { program: 'shell' });
    rmSync(folder, { recursive: true, force: true });
    return;
  }
  for (const xen of values.xen ? [values.xen] : RELEASES) await testRelease(xen);
  if (values.list) return;
  console.log(`\n${totals.passed} passed, ${totals.failed} failed`);
  if (totals.failed > 0 || totals.passed === 0) process.exitCode = 1;
}

try {
  await main();
} catch (error) {
  if (!(error instanceof EnvironmentError)) console.log(error.stack);
  console.log(`FAIL  the Xen lab: ${error.message}`);
  console.log(`\n${totals.passed} passed, ${totals.failed + 1} failed`);
  process.exitCode = 1;
}
