import { Duplex } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { QmpClientOptions } from '@xenpv/qmp';
import * as qmp from '@xenpv/qmp';
import type { Random } from '../program/random.js';
import { type Message, messagesOf } from './json-messages.js';
import { cut } from './mutate.js';
import { Fault, mustHold, type Target } from './target.js';

/** The parts of the package that are fuzzed. */
type Qmp = Pick<typeof qmp, 'QmpClient' | 'QmpError'>;

const MOST_CHARACTERS = 4096;
/** Nothing waits for it: the stream ends when it has nothing more to say. */
const ANSWER_MS = 5000;
/** The client counts, and negotiates first. */
const ASKED_ID = 2;

/** A server that says a line in each turn of the event loop, whatever it is told, and ends. */
class Server extends Duplex {
  told = 0;

  override _read(): void {}

  override _write(_bytes: Buffer, _encoding: string, done: () => void): void {
    this.told++;
    done();
  }

  async say(lines: Buffer[][]): Promise<void> {
    for (const line of lines) {
      for (const piece of line) this.push(piece);
      // What the client says to that comes in this turn.
      await nextTurn();
    }
    this.push(null);
  }
}

/** For planted defects. */
export interface QmpClientDefect {
  /** What the client is given instead of what the server says: as one that misreads it would act. */
  readonly misread?: (line: Buffer) => Buffer;
  readonly options?: (options: QmpClientOptions) => QmpClientOptions;
  /** Another build of the package. */
  readonly client?: Qmp;
}

/**
 * A client with a server of no goodwill: one end, however the bytes are cut, and no error but its own; each event is one
 * that the server sent, once and in its order, and an answer is the one to what was asked; no message is longer than
 * allowed.
 */
export function qmpClientOf(defect: QmpClientDefect = {}): Target {
  return {
    name: 'qmp-client',
    async read(bytes, random) {
      const { misread = (line) => line } = defect;
      const lines = linesOf(bytes);
      const said = messagesOf(lines.map((line) => line.toString('utf8')).join(''), MOST_CHARACTERS);
      const read = lines.map(misread);
      const whole = await converse(
        read.map((line) => [line]),
        said,
        defect,
      );
      checkRight(whole, lines);
      const inPieces = await converse(
        read.map((line) => cutCharacters(random, line)),
        said,
        defect,
      );
      mustHold(whole === inPieces, `pieces come to another end: ${inPieces}, not ${whole}`);
    },
  };
}

export const qmpClient: Target = qmpClientOf();

/** What became of it, in words. */
async function converse(
  lines: Buffer[][],
  said: readonly Message[],
  { options = (given) => given, client: { QmpClient, QmpError } = qmp }: QmpClientDefect,
): Promise<string> {
  const nameOf = (error: unknown) => nameOfError(error, QmpError);
  const server = new Server();
  const events: unknown[] = [];
  void server.say(lines);
  try {
    const client = await QmpClient.over(
      server,
      options({ answerMs: ANSWER_MS, mostCharacters: MOST_CHARACTERS, onEvent: (event) => events.push(event) }),
    );
    const answer = await client.execute('query-block-exports').then(
      (value) => {
        mustHold(
          said.some((one) => one.id === ASKED_ID && isDeepStrictEqual(one.return, value)),
          `nobody answered ${JSON.stringify(value)} to what was asked`,
        );
        return value;
      },
      (error: unknown) => nameOf(error),
    );
    client.close();
    await client.closed;
    mustHold(server.told <= 2, `it said ${server.told} things`);
    mustHold(
      said.some((one) => isDeepStrictEqual(one, client.greeting)),
      'its greeting is not the one of the server',
    );
    return JSON.stringify([client.greeting.QMP.version, answer]);
  } catch (error) {
    return nameOf(error);
  } finally {
    server.destroy();
    const sent = said.filter(({ event }) => typeof event === 'string').slice(0, events.length);
    mustHold(
      isDeepStrictEqual(events, sent),
      `events are ${JSON.stringify(events)}, sent were ${JSON.stringify(sent)}`,
    );
  }
}

/** A conversation with a line for each thing is answered, whatever events are between. */
function checkRight(came: string, lines: readonly Buffer[]): void {
  const answer = answerOf(lines);
  if (answer === undefined) return;
  const right =
    'return' in answer ? came.endsWith(`,${JSON.stringify(answer.return)}]`) : came.includes(',"ERR_COMMAND ');
  mustHold(right, `the answer is ${JSON.stringify(answer)}, and it ends with ${came}`);
}

/** To what was asked; undefined: it has none, or something else comes before it. */
function answerOf(lines: readonly Buffer[]): Message | undefined {
  const messages = lines.map(messageOf);
  const [greeting, ...others] = messages.filter(({ event }) => typeof event !== 'string');
  const [ready, answer] = others;
  const version = isRecord(greeting?.QMP) ? greeting.QMP.version : undefined;
  if (messages[0] !== greeting || !isRecord(version) || !ready || !answer) return undefined;
  if (ready.id !== ASKED_ID - 1 || !('return' in ready) || 'QMP' in ready) return undefined;
  const isAnswer = 'return' in answer || isRecord(answer.error);
  return answer.id === ASKED_ID && isAnswer && !('QMP' in answer) ? answer : undefined;
}

/** The one that is all of a line, or an empty one. */
function messageOf(line: Buffer): Message {
  const text = line.toString('utf8');
  try {
    const message: unknown = text.length > MOST_CHARACTERS ? undefined : JSON.parse(text);
    return isRecord(message) ? message : {};
  } catch {
    return {};
  }
}

function isRecord(value: unknown): value is Message {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function nameOfError(error: unknown, QmpError: Qmp['QmpError']): string {
  if (error instanceof Fault) throw error;
  mustHold(error instanceof QmpError, `it throws ${error instanceof Error ? error.stack : error}`);
  mustHold((error as qmp.QmpError).code !== 'ERR_TIMEOUT', 'it waits for a server that has gone');
  return `${(error as qmp.QmpError).code} ${(error as qmp.QmpError).message}`;
}

function linesOf(bytes: Buffer): Buffer[] {
  const lines: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = bytes.indexOf(10, at);
    lines.push(bytes.subarray(at, end < 0 ? bytes.length : end + 1));
    at = end < 0 ? bytes.length : end + 1;
  }
  return lines;
}

/** Bytes that are no UTF-8 become the same characters only if none is cut in two. */
function cutCharacters(random: Random, line: Buffer): Buffer[] {
  return cut(random, Buffer.from(line.toString('utf8')));
}
