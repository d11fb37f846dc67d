import { parseArgs } from 'node:util';
import { XenstoreClient } from '../client/client.js';
import { isXenstoreError } from '../errors.js';
import { type Command, CommandFailure } from './command.js';
import { commands } from './commands.js';

/** Where a command line is run. */
export interface CommandLine {
  /** What follows the program's name. */
  readonly argv: readonly string[];
  readonly out: (bytes: Uint8Array) => void;
  readonly error: (text: string) => void;
  readonly columns: number | undefined;
  readonly signal: AbortSignal;
}

const COMMON = {
  help: { type: 'boolean', short: 'h' },
  json: { type: 'boolean' },
  /** Only the socket, as the stock tools have it; there is nothing else to choose here. */
  socket: { type: 'boolean', short: 's' },
} as const;

/** Runs one command; the exit code. */
export async function runCommandLine(line: CommandLine): Promise<number> {
  const [name, ...rest] = line.argv;
  const help = name === undefined || name === '-h' || name === '--help';
  if (help) return say(line, name === undefined, overview());
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (command === undefined) return say(line, true, `unknown mode ${name}\n${overview()}`);
  const usage = `Usage: xenstore ${name} [-h] [--json] ${command.usage}`;
  try {
    const { values, positionals } = parse(command, rest);
    if (values.help) return say(line, false, usage);
    if (!command.accepts(positionals)) return say(line, true, usage);
    return await runCommand(line, command, values, positionals);
  } catch (error) {
    if (isUsageError(error)) return say(line, true, `${error.message}\n${usage}`);
    if (error instanceof CommandFailure || isXenstoreError(error)) return say(line, true, error.message);
    throw error;
  }
}

type Values = Record<string, string | boolean | undefined>;

function parse(command: Command, args: readonly string[]): { values: Values; positionals: string[] } {
  const options = { ...COMMON, ...command.options };
  const { values, positionals } = parseArgs({ args: [...args], options, allowPositionals: true });
  return { values: values as Values, positionals };
}

async function runCommand(line: CommandLine, command: Command, options: Values, args: string[]): Promise<number> {
  await using store = await XenstoreClient.connect({ signal: line.signal });
  let printed: Uint8Array[] = [];
  const context = {
    ...line,
    store,
    args,
    options,
    print: (text: string | Uint8Array) => {
      printed.push(Buffer.from(text));
    },
    show: (text: string) => line.out(Buffer.from(text)),
    reset: () => {
      printed = [];
    },
  };
  try {
    return await command.run(context);
  } finally {
    if (printed.length > 0) line.out(Buffer.concat(printed));
  }
}

function overview(): string {
  const lines = Object.entries(commands).map(([name, { usage }]) => `  xenstore ${name} [-h] [--json] ${usage}\n`);
  return `Usage: xenstore <mode> [-h] [...]\n${lines.join('')}XENSTORED_PATH names another socket than /run/xenstored/socket.`;
}

function say(line: CommandLine, wrong: boolean, text: string): number {
  if (wrong) line.error(`xenstore: ${text}\n`);
  else line.out(Buffer.from(`${text}\n`));
  return wrong ? 1 : 0;
}

function isUsageError(error: unknown): error is Error {
  return error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS');
}
