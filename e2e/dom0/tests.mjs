/** Runs the tests of /lab/e2e/tests in dom0, and reports each. */
import { uptime } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { destroyAll } from './domain.mjs';
import { groups } from './registry.mjs';
import { log, report } from './report.mjs';
import { sh } from './shell.mjs';

/** By the part of the tests: a machine runs one or more. The longest stand last, for they are what a short time leaves out. */
const FILES = {
  ways: ['peers', 'provider', 'driver-domain', 'dom0-ways', 'guest-kinds', 'kills', 'console'],
  days: ['robustness', 'bad-days', 'operator', 'hostile', 'blkfront'],
  systemd: ['operations', 'systemd'],
};

/** So many tests that failed run once more, each in a set-up of its own; more have one reason, and would take too long. */
const MOST_TRIED_AGAIN = 3;

/** With so much of the machine's time left, every test is begun. */
const MOST_MINUTES_LEFT = 8;

/** `seconds`: how long the machine may run; a test that would probably not end in them is not begun. */
export async function main({ xen, parts, filters, list, seconds }) {
  for (const file of parts.flatMap((part) => FILES[part])) await import(`../tests/${file}.mjs`);
  const plan = choose(xen, filters);
  report({ type: 'plan', names: plan.flatMap(({ tests }) => tests.map(({ full }) => full)) });
  if (list) return;
  const failed = [];
  for (const group of plan) failed.push(...(await runGroup(group, { seconds })));
  if (failed.length > MOST_TRIED_AGAIN) return;
  for (const { group, test } of failed.filter(({ group }) => !group.inOrder))
    await runGroup({ ...group, tests: [test] }, { again: true, seconds });
}

/** Whether what is left of the machine's time is enough for a test, most of which take far less than they may. */
function hasTime({ minutes }, seconds) {
  return seconds === undefined || uptime() + Math.min(minutes / 2, MOST_MINUTES_LEFT) * 60 < seconds;
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
async function runGroup(group, { again = false, seconds } = {}) {
  const skip = (test) => again || report({ type: 'skipped', name: test.full });
  if (!group.tests.some((test) => hasTime(test, seconds))) {
    for (const test of group.tests) skip(test);
    return [];
  }
  const context = {};
  const failed = [];
  const failure = await attempt(() => group.setup(context), 8).then(
    () => undefined,
    (error) => error,
  );
  for (const test of group.tests) {
    if (!hasTime(test, seconds)) {
      skip(test);
      continue;
    }
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
