/** One run of a program in dom0, from the lab to the logs that are kept. */
import { appendFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildAddons, setup } from '../../scripts/lib/setup.mjs';
import { run } from '../../scripts/lib/steps.mjs';
import { ensureLab } from '../lab/lab.mjs';
import { keepLogs } from './logs.mjs';
import { runMachine, shellMachine } from './machine.mjs';

/** The options that every program of the lab has, and their lines of a usage. */
export const COMMON_OPTIONS = {
  keep: { type: 'boolean', default: false },
  'no-setup': { type: 'boolean', default: false },
};
export const COMMON_USAGE = `  --keep           keep the logs, in e2e/logs
  --no-setup       take the packages as they are built
  --help           this text
`;

export const say = (text) => process.stderr.write(`xen lab: ${text}\n`);

/** Installs, and builds the JavaScript and the native addons, unless `--no-setup` was given. Errors: StepError. */
export async function prepare({ 'no-setup': asBuilt }) {
  if (asBuilt) return;
  await setup(say);
  const missing = await buildAddons();
  if (missing) say(`native addons: ${missing}`);
}

/**
 * Boots the lab of a Xen release and runs `program` (what is in /lab/run.json) in its dom0. `onReport` gets what the
 * program reports, apart from what it logs. The logs are kept as e2e/logs/`name` where `keep(result)` says so.
 * Resolves with `{ ended, reason, interrupted, console, logs }`: the console's end where the program did not end, the
 * folder of the logs where they are kept. Errors: StepError.
 */
export function runInDom0(xen, program, { name, minutes, keep, onReport }) {
  return withLab(xen, async (lab, folder) => {
    const interrupt = new AbortController();
    const onSignal = () => interrupt.abort();
    for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, onSignal);
    say(`booting Xen ${xen}`);
    const result = await runMachine(
      lab,
      folder,
      { ...program, xen },
      {
        minutes,
        signal: interrupt.signal,
        onReport: (report) => {
          if (report.type === 'log') say(`dom0: ${report.text}`);
          else if (report.type === 'evidence') appendFileSync(join(folder, 'failures.log'), `${report.text}\n\n`);
          else onReport(report);
        },
      },
    );
    for (const signal of ['SIGINT', 'SIGTERM']) process.off(signal, onSignal);
    const end = result.ended
      ? ''
      : await run('console', 'tail', ['-n', '30', join(folder, 'console.log')]).catch(() => '');
    const logs = keep(result) ? await keepLogs(folder, name) : undefined;
    if (logs) say(`logs: ${logs}`);
    return { ...result, interrupted: interrupt.signal.aborted, console: end, logs };
  });
}

/** A shell in dom0, on this terminal. */
export function shellInDom0(xen) {
  return withLab(xen, (lab, folder) => shellMachine(lab, folder, { program: 'shell', xen }));
}

/** Of a release: two machines at once do not build it twice. */
const labs = new Map();

/** The lab of a release, which is built if need be. Errors: StepError. */
export function labOf(xen) {
  if (!labs.has(xen)) labs.set(xen, ensureLab(xen, say));
  return labs.get(xen);
}

/** With the lab of a release and a folder for the run. */
async function withLab(xen, work) {
  const lab = await labOf(xen);
  const folder = mkdtempSync(join(tmpdir(), 'xen-lab-'));
  try {
    return await work(lab, folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
