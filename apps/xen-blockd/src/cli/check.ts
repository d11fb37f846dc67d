import { printable } from '@xenpv/xenbus';
import type { Command } from 'commander';
import { CONFIGURATION } from '../daemon/check/configuration.js';
import type { Finding } from '../daemon/check/finding.js';
import { checkMachine } from '../daemon/check/machine.js';
import { checkConfig, formatProblem } from '../daemon/config.js';
import { ExitCode } from '../errors.js';
import { formatJson } from '../status/format.js';

const HELP = `
It looks at devices, xenstored and its quotas, others that serve the same disks, the hotplug script, io_uring, limits, the journal
folder, the storage helper and its drivers, the unit, daemons that run, and all mistakes of the configuration.

Exit codes: 0 the daemon can serve, though there may be notes; 69 something is missing or in the way; 78 all that is wrong is the
configuration. With --json each finding has name, ok, needed, detail, and remedy where something is to be done.

Examples:
  xen-blockd check                                  the machine, with its /etc/xen-blockd.toml
  xen-blockd check --config /tmp/xen-blockd.toml    a configuration, before it is put in its place
  xen-blockd check --json | jq '.[] | select(.ok | not)'
`;

/** `xen-blockd check`; `ended` gets the exit code. */
export function addCheck(program: Command, ended: (code: number) => void): void {
  program
    .command('check')
    .description('tell what this machine has of what the daemon needs, what is in its way, and what to do')
    .addHelpText('after', HELP)
    .option('--config <file>', 'check this configuration instead; exit code 78 if something is wrong in it')
    .option('--json', 'print JSON')
    .action(async ({ json, config }: { json?: boolean; config?: string }) => {
      if (config !== undefined) {
        const problems = checkConfig(config);
        if (json) process.stdout.write(`${JSON.stringify(problems, null, 2)}\n`);
        else for (const problem of problems) process.stderr.write(`${formatProblem(problem)}\n`);
        ended(problems.length > 0 ? ExitCode.config : ExitCode.ok);
        return;
      }
      const findings = await checkMachine();
      process.stdout.write(json ? formatJson(findings) : formatFindings(findings));
      ended(exitCodeOf(findings));
    });
}

/** A machine that lacks something comes before a configuration that is wrong. */
function exitCodeOf(findings: readonly Finding[]): number {
  const lacking = findings.filter(({ needed, ok }) => needed && !ok);
  if (lacking.length === 0) return ExitCode.ok;
  return lacking.every(({ name }) => name === CONFIGURATION) ? ExitCode.config : ExitCode.unavailable;
}

/** A line for each, and one for what to do. */
function formatFindings(findings: readonly Finding[]): string {
  const width = Math.max(...findings.map(({ name }) => name.length));
  const mark = ({ ok, needed }: Finding) => (ok ? 'ok     ' : needed ? 'MISSING' : 'note   ');
  return findings
    .map((finding) => {
      const { name, detail, remedy } = finding;
      const mend = remedy === undefined ? '' : `${' '.repeat(width + 11)}remedy: ${printable(remedy)}\n`;
      return `${mark(finding)}  ${name.padEnd(width)}  ${printable(detail)}\n${mend}`;
    })
    .join('');
}
