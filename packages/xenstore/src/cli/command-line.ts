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
  if (name === undefined) return refuse(line, overview());
  if (name === '-h' || name === '--help') return answer(line, overview());
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (command === undefined) return refuse(line, `unknown mode ${name}\n${overview()}`);
  const usage = `Usage: xenstore ${name} [-h] [--json] ${command.usage}`;
  try {
    const { values, positionals } = parse(command, rest);
    if (values.help) return answer(line, usage);
    if (!command.accepts(positionals)) return refuse(line, usage);
    return await runCommand(line, command, values, positionals);
  } catch (error) {
    if (isUsageError(error)) return refuse(line, `${error.message}\n${usage}`);
    if (error instanceof CommandFailure || isXenstoreError(error)) return refuse(line, error.message);
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
  const socket = 'XENSTORED_PATH names another socket than /run/xenstored/socket.';
  return `Usage: xenstore <mode> [-h] [...]\n${lines.join('')}${socket}`;
}

function answer(line: CommandLine, text: string): number {
  line.out(Buffer.from(`${text}\n`));
  return 0;
}

function refuse(line: CommandLine, text: string): number {
  line.error(`xenstore: ${text}\n`);
  return 1;
}

function isUsageError(error: unknown): error is Error {
  return error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS');
}
