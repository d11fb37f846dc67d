import { printable } from '@xenpv/xenbus';
import { Command, CommanderError } from 'commander';
import { BlockdError, ExitCode } from '../errors.js';
import { LogSink, writeWithoutWaiting } from '../log/log-sink.js';
import { packageVersion } from '../package-root.js';
import { addCheck } from './check.js';
import { addCompletion } from './completion.js';
import { addDemo } from './demo.js';
import { addDeviceModel } from './device-model.js';
import { addEmbedded } from './embedded.js';
import { addQueries } from './queries.js';
import { addRun, type RunListener } from './run.js';

/**
 * Runs `xen-blockd` with these arguments; resolves with the exit code. An error is one line on standard error. `ready` is
 * called when a daemon serves.
 */
export async function runCommandLine(args: readonly string[], ready: () => void): Promise<number> {
  const outcome = { code: ExitCode.ok as number };
  const ended = (code: number) => {
    outcome.code = code;
  };
  const program = makeProgram({ ended, ready });
  try {
    await program.parseAsync(args, { from: 'user' });
    return outcome.code;
  } catch (error) {
    return reportError(error);
  }
}

/** Commander's message as one line like all the others. */
function usageLine(text: string): string {
  const message = text
    .trim()
    .replace(/^error: /, '')
    .replace(/\s*\n\s*/g, ' ')
    .replace(/\.$/, '');
  return `xen-blockd: ${message}. See xen-blockd --help.\n`;
}

function reportError(error: unknown): number {
  if (error instanceof CommanderError) {
    // Help and version end this way too; commander has printed the message.
    return error.exitCode === 0 ? ExitCode.ok : ExitCode.usage;
  }
  printError(error instanceof Error ? error.message : String(error));
  if (error instanceof BlockdError) return error.exitCode;
  if (process.env.XEN_BLOCKD_DEBUG) console.error(error);
  return ExitCode.failure;
}

/** The last thing that this process does must not wait for a reader. */
function printError(message: string): void {
  const sink = new LogSink(writeWithoutWaiting(2), () => '');
  sink.write(`xen-blockd: ${printable(message)}\n`);
  sink[Symbol.dispose]();
}

/** All commands, as commander has them; none runs by itself. */
export function makeProgram({ ended, ready }: RunListener): Command {
  const program = new Command('xen-blockd')
    .description('Serves disk images to Xen guests over the paravirtual block protocol.')
    .version(packageVersion())
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(usageLine(text)) });
  addRun(program, { ended, ready });
  addCheck(program, ended);
  addDeviceModel(program);
  addQueries(program, ended);
  addDemo(program, ended);
  addEmbedded(program, ended);
  addCompletion(program);
  return program;
}
