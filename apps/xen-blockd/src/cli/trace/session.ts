import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import type { Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { Conversation } from '../../control/ask-daemon.js';
import type { TraceAnswer } from '../../control/traces.js';
import { BlockdError } from '../../errors.js';
import { packageVersion } from '../../package-root.js';
import { lookOf } from '../../status/look.js';
import {
  type EndLine,
  type LostLine,
  recordDecoder,
  type TraceHead,
  type TraceLine,
  type TraceStart,
  timeOf,
} from './lines.js';
import type { TraceOptions } from './options.js';
import { SlowRequests } from './slow-requests.js';
import { formatTraceLine, traceHeader } from './text.js';

/** How long the daemon waits for a record before it says that there is none. */
const WAIT_MS = 500;
const ANSWER_MS = 60_000;

/**
 * `xen-blockd trace`: prints or writes the lines until the disk is gone, its limits are reached, or nobody wants more. Errors:
 * ERR_SOCKET, there is no daemon, or it has gone; ERR_TOOL, the file cannot be written.
 */
export async function traceDisk(disk: string, options: TraceOptions): Promise<void> {
  const ending = new AbortController();
  const end = (why: string) => () => ending.abort(why);
  const interrupted = end('interrupted');
  for (const signal of SIGNALS) process.on(signal, interrupted);
  process.stdout.on('error', end('nobody reads it')).on('close', end('nobody reads it'));
  const timer = options.seconds && setTimeout(end(`after ${options.seconds} s`), options.seconds * 1000);
  try {
    await traceUntil(disk, options, ending.signal);
  } finally {
    clearTimeout(timer);
    for (const signal of SIGNALS) process.off(signal, interrupted);
  }
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

async function traceUntil(disk: string, options: TraceOptions, signal: AbortSignal): Promise<void> {
  const answerMs = options.timeout === undefined ? ANSWER_MS : options.timeout * 1000;
  await using conversation = new Conversation(options.socket, { answerMs });
  const start = await conversation.ask<TraceStart>('x-trace-start', {
    disk,
    ...(options.op ? { operations: options.op } : {}),
    ...(options.queue === undefined ? {} : { queue: options.queue }),
  });
  const output = await TraceOutput.open(options, start.device);
  const printer = new Printer(output, options);
  process.stderr.write(`xen-blockd: trace: ${start.device}; Ctrl-C ends it\n`);
  let why = '';
  try {
    why = await follow(conversation, start, printer, signal);
  } catch (error) {
    why = (error as Error).message;
    throw error;
  } finally {
    await printer.end(why);
  }
}

/** Resolves with why it has ended. */
async function follow(
  conversation: Conversation,
  start: TraceStart,
  printer: Printer,
  signal: AbortSignal,
): Promise<string> {
  const decode = recordDecoder(start);
  const args = { trace: start.trace, 'wait-ms': WAIT_MS };
  while (!signal.aborted) {
    const { records, lost, ended } = await conversation.ask<TraceAnswer>('x-trace-read', args);
    await printer.lost(lost);
    if (!(await printer.print(decode(records), signal))) return 'as many lines as were asked for';
    if (ended) return `${start.device} is served no more`;
  }
  return String(signal.reason);
}

/** What is shown of the lines, and the account of them. */
class Printer {
  readonly #output: TraceOutput;
  readonly #slow: SlowRequests | undefined;
  readonly #most: number;
  #lines = 0;
  #lost = 0;

  constructor(output: TraceOutput, { minLatency, limit = Number.POSITIVE_INFINITY }: TraceOptions) {
    this.#output = output;
    this.#slow = minLatency === undefined ? undefined : new SlowRequests(minLatency * 1000);
    this.#most = limit;
  }

  async lost(count: number): Promise<void> {
    this.#lost += count;
    if (count > 0) await this.#output.lost(count);
  }

  /** False when there may be no more. */
  async print(lines: readonly TraceLine[], signal: AbortSignal): Promise<boolean> {
    const shown = this.#slow ? lines.flatMap((line) => this.#slow?.push(line) ?? []) : lines;
    for (const line of shown) {
      if (signal.aborted) break;
      if (this.#lines >= this.#most) return false;
      this.#lines++;
      await this.#output.line(line);
    }
    return this.#lines < this.#most;
  }

  /** What is slow, and not answered yet, is shown too. */
  async end(why: string): Promise<void> {
    const left = this.#slow?.unanswered(Date.now() * 1000, timeOf) ?? [];
    for (const line of left.slice(0, Math.max(0, this.#most - this.#lines))) {
      this.#lines++;
      await this.#output.line(line);
    }
    await this.#output.end(why, this.#lines, this.#lost);
  }
}

/** Where lines go: to standard output as text or JSON, or to a file. */
class TraceOutput {
  readonly #stream: Writable;
  readonly #path: string | undefined;
  readonly #isText: boolean;
  #failure: Error | undefined;

  private constructor(stream: Writable, path: string | undefined, isText: boolean) {
    this.#stream = stream;
    this.#path = path;
    this.#isText = isText;
    if (path === undefined) return;
    stream.on('error', (error) => {
      this.#failure = error;
    });
  }

  static async open({ write, json }: TraceOptions, device: string): Promise<TraceOutput> {
    if (write === undefined) {
      const output = new TraceOutput(process.stdout, undefined, !json);
      if (!json) await output.#put(traceHeader(lookOf(process.stdout)));
      return output;
    }
    const stream = createWriteStream(write, { flags: 'wx', mode: 0o600 });
    const output = new TraceOutput(stream, write, false);
    await once(stream, 'open').catch(() => output.#check());
    const head: TraceHead = { 'xen-blockd-trace': 1, device, version: packageVersion() };
    await output.#put(JSON.stringify(head));
    return output;
  }

  line(line: TraceLine): Promise<void> {
    return this.#put(this.#isText ? formatTraceLine(line, lookOf(process.stdout)) : JSON.stringify(line));
  }

  lost(count: number): Promise<void> {
    return this.#put(
      this.#isText
        ? `${count} lines are lost: they came quicker than they were read`
        : JSON.stringify({ lost: count } satisfies LostLine),
    );
  }

  async end(why: string, lines: number, lost: number): Promise<void> {
    const account = `${lines} lines, ${lost} lost; it ended: ${why}`;
    process.stderr.write(`xen-blockd: trace: ${account}\n`);
    if (this.#path === undefined) return;
    await this.#put(JSON.stringify({ ended: why, lines, lost } satisfies EndLine)).catch(() => {});
    this.#stream.end();
    await finished(this.#stream).catch(() => {});
    this.#check();
  }

  /** Waits for a reader that is slow: what comes meanwhile is lost in the daemon, and counted. */
  async #put(line: string): Promise<void> {
    this.#check();
    if (this.#stream.write(`${line}\n`) || this.#stream.destroyed) return;
    await Promise.race([once(this.#stream, 'drain'), once(this.#stream, 'close')]).catch(() => {});
    this.#check();
  }

  #check(): void {
    if (!this.#failure) return;
    const { code, message } = this.#failure as NodeJS.ErrnoException;
    const advice = code === 'EEXIST' ? 'it is there already; name a new file' : message;
    throw new BlockdError('ERR_TOOL', 'trace', `trace file ${this.#path}: ${advice}`, { cause: this.#failure });
  }
}
