import { printable } from '@xenpv/xenbus';
import type { Command } from 'commander';
import { checkConfig, formatProblem } from '../daemon/config.js';
import { checkMachine, type Finding } from '../daemon/machine-check.js';
import { ExitCode } from '../errors.js';
import { formatJson } from '../status/format.js';

/** `xen-blockd check`; `ended` gets the exit code. */
export function addCheck(program: Command, ended: (code: number) => void): void {
  program
    .command('check')
    .description('tell what this machine has of what the daemon needs; exit code 69 if something is missing')
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
      ended(findings.some(({ needed, ok }) => needed && !ok) ? ExitCode.unavailable : ExitCode.ok);
    });
}

/** A line for each. */
function formatFindings(findings: readonly Finding[]): string {
  const width = Math.max(...findings.map(({ name }) => name.length));
  const mark = ({ ok, needed }: Finding) => (ok ? 'ok     ' : needed ? 'MISSING' : 'note   ');
  return findings
    .map((finding) => `${mark(finding)}  ${finding.name.padEnd(width)}  ${printable(finding.detail)}\n`)
    .join('');
}
