import { type Command, InvalidArgumentError } from 'commander';
import type * as v from 'valibot';
import { DISK_ANSWER, DISKS_ANSWER, NAME_ANSWER } from '../../control/answers.js';
import { askDaemon, type DaemonRequest } from '../../control/ask-daemon.js';
import { DEFAULTS } from '../../daemon/config.js';
import type { DiskReport } from '../../status/disks/device-status.js';
import { formatJson } from '../../status/format.js';
import { type Look, lookOf } from '../../status/look.js';

/** How a disk is named. */
export const DISK = 'as web1:xvda, its guest and vdev; its name or image, as list shows them; or its backend path';

/** What all commands that ask a running daemon are told. */
export interface QueryOptions {
  readonly socket: string;
  readonly json?: boolean;
  /** Seconds; undefined for what the command has by itself. */
  readonly timeout?: number;
}

/** Disks as text. */
export type DiskFormat = (disks: readonly DiskReport[], look: Look) => string;

/** A command that asks a running daemon. */
export function addAsking(program: Command, name: string, description: string): Command {
  return program
    .command(name)
    .description(description)
    .option('--socket <path>', "the daemon's control socket", DEFAULTS['control-socket'])
    .option('--timeout <seconds>', 'how long an answer is waited for, instead of what the command has', seconds);
}

/** One that prints what the daemon answers. */
export function addQuery(program: Command, name: string, description: string): Command {
  return addAsking(program, name, description).option('--json', 'print JSON');
}

const MOST_SECONDS = 86_400;

/** A parser of times for commander, which may be parts of a second. */
export function seconds(text: string): number {
  const value = Number(text);
  if (/^\d+(\.\d+)?$/.test(text) && value > 0 && value <= MOST_SECONDS) return value;
  throw new InvalidArgumentError(`Expected seconds: a number above 0, of at most ${MOST_SECONDS}.`);
}

/** What a command of the daemon returns, which is `T`. Error: ERR_SOCKET. */
export function answerOf<T>(
  { socket, timeout }: QueryOptions,
  request: DaemonRequest,
  signal?: AbortSignal,
): Promise<T> {
  const answerMs = timeout === undefined ? request.answerMs : timeout * 1000;
  return askDaemon<T>(socket, { ...request, answerMs }, signal);
}

/** The disks that a command of the daemon returns. Error: ERR_SOCKET. */
export function disksOf(
  options: QueryOptions,
  request: DaemonRequest,
  signal?: AbortSignal,
): Promise<readonly DiskReport[]> {
  return answerOf(options, { answer: DISKS_ANSWER, ...request }, signal);
}

/** One disk, as the operator names it. Error: ERR_SOCKET, which says what disks there are. */
export async function diskOf(options: QueryOptions, disk: string): Promise<DiskReport> {
  const [found] = await disksOf(options, { command: 'x-query-disks', args: { disk }, answer: DISK_ANSWER });
  return found;
}

/** The daemon's name for one disk: all that is needed of it to tell the daemon what to do. Error: as {@link diskOf}. */
export async function deviceOf(options: QueryOptions, disk: string): Promise<string> {
  const request = { command: 'x-query-disks', args: { disk }, answer: NAME_ANSWER };
  const [{ device }] = await answerOf<v.InferOutput<typeof NAME_ANSWER>>(options, request);
  return device;
}

/** Prints the disks that a command of the daemon returns. Error: ERR_SOCKET. */
export async function ask(options: QueryOptions, request: DaemonRequest, format: DiskFormat): Promise<void> {
  print(options, await disksOf(options, request), format);
}

/** Prints as text, or as JSON where that is asked for. */
export function print<T>(
  { json }: { readonly json?: boolean },
  value: T,
  format: (value: T, look: Look) => string,
): void {
  process.stdout.write(json ? formatJson(value) : format(value, lookOf(process.stdout)));
}
