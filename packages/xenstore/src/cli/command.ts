import type { ParseArgsConfig } from 'node:util';
import type { XenstoreClient } from '../client/client.js';
import { isXenstoreError } from '../errors.js';

/** What a command works with. */
export interface CommandContext {
  readonly store: XenstoreClient;
  /** What is not an option. */
  readonly args: readonly string[];
  /** The options that were given, by their long names. */
  readonly options: Readonly<Record<string, string | boolean | undefined>>;
  /** Output that is shown when the command is done, or failed. */
  readonly print: (text: string | Uint8Array) => void;
  /** Output that is shown at once. */
  readonly show: (text: string) => void;
  /** Forgets what was printed: a transaction begins again. */
  readonly reset: () => void;
  /** Columns of the terminal, or undefined if the output is no terminal. */
  readonly columns: number | undefined;
  readonly signal: AbortSignal;
}

/** One of `xenstore ls`, `xenstore read` and so on. */
export interface Command {
  /** Options and arguments, for the usage line. */
  readonly usage: string;
  readonly options: NonNullable<ParseArgsConfig['options']>;
  /** Whether their number is right. */
  readonly accepts: (args: readonly string[]) => boolean;
  /** The exit code. */
  readonly run: (context: CommandContext) => Promise<number>;
}

/** A failure with a line for the user. */
export class CommandFailure extends Error {}

/** Runs `action`; what the store refuses fails with the line that the stock tools have for it. */
export async function explained<T>(action: Promise<T>, line: (reason: string) => string): Promise<T> {
  try {
    return await action;
  } catch (error) {
    if (!isXenstoreError(error) || error.code === 'EAGAIN' || error.code === 'ERR_CLOSED') throw error;
    throw new CommandFailure(line(reasonOf(error.code)));
  }
}

const REASONS: Record<string, string> = {
  ENOENT: 'No such file or directory',
  EINVAL: 'Invalid argument',
  ERR_INVALID_PATH: 'Invalid argument',
  ERR_INVALID_ARGUMENT: 'Invalid argument',
  EACCES: 'Permission denied',
  EPERM: 'Operation not permitted',
  ENOSPC: 'No space left on device',
  E2BIG: 'Argument list too long',
  ERR_TOO_LARGE: 'Argument list too long',
};

function reasonOf(code: string): string {
  return REASONS[code] ?? code;
}

/** A value for JSON: text, or `{ "base64": ... }` for bytes that are not UTF-8. */
export function jsonValue(value: Uint8Array): string | { base64: string } {
  const bytes = Buffer.from(value);
  const text = bytes.toString('utf8');
  return Buffer.from(text, 'utf8').equals(bytes) ? text : { base64: bytes.toString('base64') };
}
