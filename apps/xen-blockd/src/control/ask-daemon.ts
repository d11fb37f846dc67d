import { QmpClient, QmpError, type QmpEvent } from '@xenpv/qmp';
import * as v from 'valibot';
import { BlockdError, errorCode } from '../errors.js';
import { packageVersion } from '../package-root.js';
import type { DiskReport } from '../status/disks/device-status.js';

/** A command of the daemon. */
export interface DaemonRequest {
  readonly command: string;
  readonly args?: Readonly<Record<string, unknown>>;
  /** What the answer has to be; undefined if nothing is read of it. */
  readonly answer?: v.GenericSchema;
  /** Milliseconds for the answer. */
  readonly answerMs?: number | undefined;
}

/** Asking the storage may take a while. */
const ANSWER_MS = 60_000;

/**
 * Asks the daemon that listens on `path`; resolves with what the command returns, which is `T`. Error: ERR_SOCKET if there is no daemon,
 * or with the daemon's own words.
 */
export async function askDaemon<T = readonly DiskReport[]>(
  path: string,
  { command, args, answer, answerMs = ANSWER_MS }: DaemonRequest,
  signal?: AbortSignal,
): Promise<T> {
  await using conversation = new Conversation(path, { answerMs, signal });
  // Awaited here: the conversation ends with this function.
  return await conversation.ask<T>(command, args, answer);
}

/** How a conversation is held. */
export interface ConversationOptions {
  /** Milliseconds for each answer. */
  readonly answerMs?: number | undefined;
  /** Ends it at once. */
  readonly signal?: AbortSignal | undefined;
  /** Takes what the daemon tells by itself, from the first answer on. */
  readonly onEvent?: ((event: QmpEvent) => void) | undefined;
}

/** Commands to a daemon that belong together: it ends what belongs to a conversation with it. */
export class Conversation implements AsyncDisposable {
  readonly #path: string;
  readonly #options: ConversationOptions & { readonly answerMs: number };
  #client: QmpClient | undefined;

  constructor(path: string, { answerMs = ANSWER_MS, ...options }: ConversationOptions = {}) {
    this.#path = path;
    this.#options = { answerMs, ...options };
  }

  /**
   * Resolves with what the command returns, which is `T`: it is looked at if there is `answer`, and is passed on as it came. Error: as
   * {@link askDaemon}, or the signal's reason.
   */
  async ask<T>(command: string, args?: Readonly<Record<string, unknown>>, answer?: v.GenericSchema): Promise<T> {
    const value = await this.#execute(command, args);
    if (answer !== undefined) this.#checkAnswer(command, value, answer);
    return value as T;
  }

  async #execute(command: string, args: Readonly<Record<string, unknown>> | undefined): Promise<unknown> {
    const path = this.#path;
    const { answerMs, signal } = this.#options;
    try {
      this.#client ??= await QmpClient.connect(path, this.#options);
      return await this.#client.execute(command, args);
    } catch (error) {
      signal?.throwIfAborted();
      const message = messageOf(error, { path, command, answerMs, version: this.#version });
      throw new BlockdError('ERR_SOCKET', 'ask daemon', message, { path, cause: error });
    }
  }

  get #version(): string | undefined {
    return this.#client?.greeting.QMP.version.package;
  }

  /** Error: ERR_SOCKET. */
  #checkAnswer(command: string, value: unknown, answer: v.GenericSchema): void {
    const { issues } = v.safeParse(answer, value, { abortEarly: true });
    if (!issues) return;
    const [issue] = issues;
    const where = [command, v.getDotPath(issue)].filter((part) => part !== null).join(' ');
    const message = `the daemon's answer cannot be read: ${where}: ${issue.message}; ${restartAdvice(this.#version)}`;
    throw new BlockdError('ERR_SOCKET', 'ask daemon', message, { path: this.#path });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#client?.close();
  }
}

interface Asked {
  readonly path: string;
  readonly command: string;
  readonly answerMs: number;
  /** What the daemon says that it is; undefined if it has said nothing. */
  readonly version: string | undefined;
}

function messageOf(error: unknown, { path, command, answerMs, version }: Asked): string {
  if (!(error instanceof QmpError)) return `socket ${path}: ${adviceOf(errorCode(error))}`;
  const { code, message } = error;
  if (isOfAnotherVersion(error, command)) {
    return `the daemon answers: ${message}; ${restartAdvice(version)}`;
  }
  if (code === 'ERR_COMMAND') return `the daemon answers: ${message}`;
  if (code === 'ERR_ENDED') {
    const known = /^(x-)?query-/.test(command) ? '' : '; see in xen-blockd list what it has done';
    return `socket ${path}: the daemon closed the connection${known}`;
  }
  if (code === 'ERR_TIMEOUT') {
    const seconds = answerMs / 1000;
    const late = `the daemon does not answer within ${seconds} ${seconds === 1 ? 'second' : 'seconds'}`;
    return `socket ${path}: ${late}; see its log, journalctl -u xen-blockd, or wait longer with --timeout`;
  }
  return `socket ${path}: what answers there is no xen-blockd of this version: ${message}`;
}

function restartAdvice(version: string | undefined): string {
  const versions = `it is ${version}, this is xen-blockd ${packageVersion()}`;
  return `${versions}: if it is older, systemctl restart xen-blockd (guests notice a pause)`;
}

/** Whether the daemon does not know a command, or a member, of ours. */
function isOfAnotherVersion({ class: errorClass, message }: QmpError, command: string): boolean {
  return (
    command.startsWith('x-') && (errorClass === 'CommandNotFound' || /^Parameter '.*' is unexpected$/.test(message))
  );
}

function adviceOf(code: string | undefined): string {
  if (code === 'EACCES') return 'no permission; run this as the user of the daemon';
  return `no daemon answers there (${code}); start it with systemctl start xen-blockd, or name its socket`;
}
