/** Runs the tests of /lab/e2e/tests in dom0, and reports each. */
import { setTimeout as sleep } from 'node:timers/promises';
import { destroyAll } from './domain.mjs';
import { groups } from './registry.mjs';
import { log, report } from './report.mjs';
import { sh } from './shell.mjs';

/** By what dom0's first process is. */
const FILES = {
  lab: [
    'peers',
    'provider',
    'driver-domain',
    'dom0-ways',
    'guest-kinds',
    'blkfront',
    'robustness',
    'bad-days',
    'operator',
    'kills',
    'hostile',
    'console',
  ],
  systemd: ['operations', 'systemd'],
};

/** So many tests that failed run once more, each in a set-up of its own; more have one reason, and would take too long. */
const MOST_TRIED_AGAIN = 3;

export async function main({ xen, init, filters, list }) {
  for (const file of FILES[init]) await import(`../tests/${file}.mjs`);
  const plan = choose(xen, filters);
  report({ type: 'plan', names: plan.flatMap(({ tests }) => tests.map(({ full }) => full)) });
  if (list) return;
  const failed = [];
  for (const group of plan) failed.push(...(await runGroup(group)));
  if (failed.length > MOST_TRIED_AGAIN) return;
  for (const { group, test } of failed.filter(({ group }) => !group.inOrder))
    await runGroup({ ...group, tests: [test] }, { again: true });
}

function choose(xen, filters) {
  const here = ({ xen: only }) => !only || only.includes(xen);
  const wanted = ({ full }) => filters.length === 0 || filters.some((filter) => full.includes(filter));
  return groups
    .filter(here)
    .map((group) => ({
      ...group,
      tests: group.tests
        .filter(here)
        .map((test) => ({ ...test, full: `${group.name}: ${test.name}` }))
        .filter(wanted),
    }))
    .filter(({ tests }) => tests.length > 0);
}

/** Resolves with the tests that failed. */
async function runGroup(group, { again = false } = {}) {
  const context = {};
  const failed = [];
  const failure = await attempt(() => group.setup(context), 8).then(
    () => undefined,
    (error) => error,
  );
  for (const test of group.tests) {
    const began = performance.now();
    const result = failure ? { error: new Error(`set-up: ${failure.message}`) } : await runTest(group, test, context);
    const { error, note } = result;
    const ms = performance.now() - began;
    if (error) {
      failed.push({ group, test });
      await attempt(() => evidence(test.full, error), 2).catch((late) => log(`evidence: ${late.message}`));
      await attempt(() => destroyAll({ except: context.keep ?? [] }), 3).catch(() => {});
    }
    report({
      type: 'test',
      again,
      name: test.full,
      ok: !error,
      ms,
      note,
      error: error && String(error.stack ?? error),
    });
  }
  await attempt(() => group.teardown(context), 4).catch((error) => log(`end of ${group.name}: ${error.message}`));
  await destroyAll();
  return failed;
}

async function runTest(group, test, context) {
  try {
    const note = await attempt(() => test.run(context), test.minutes);
    await attempt(() => group.after(context), 3);
    return { note };
  } catch (error) {
    return { error };
  }
}

/** `work` within `minutes`. What goes on after that is left alone. */
async function attempt(work, minutes) {
  const over = new AbortController();
  const late = sleep(minutes * 60_000, undefined, { signal: over.signal }).then(() => {
    throw new Error(`not done after ${minutes} minutes`);
  });
  try {
    return await Promise.race([work(), late]);
  } finally {
    over.abort();
    late.catch(() => {});
  }
}

/** What a failure may have left, sent at once: the machine may not live to its end. */
async function evidence(name, error) {
  const consoles = 'for f in /tmp/logs/consoles/*; do echo "== $f"; tail -n 15 "$f"; done';
  const daemons = 'for f in $(ls -tr /tmp/logs/xen-blockd* | tail -n 12); do echo "== $f"; tail -n 30 "$f"; done';
  const commands = [
    'xl list',
    'xenstore-ls -fp',
    consoles,
    daemons,
    'dmesg | tail -40',
    'xl dmesg | tail -30',
    'ps ax',
    'journalctl --no-pager -n 150',
  ];
  const parts = [`${name}\n${error.stack}\n`];
  for (const command of commands) parts.push(`\n# ${command}\n${await sh(command).catch(String)}`);
  report({ type: 'evidence', text: parts.join('') });
}
