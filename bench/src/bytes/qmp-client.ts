import { Duplex } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { QmpClient, type QmpClientOptions, QmpError } from '@xenpv/qmp';
import type { Random } from '../program/random.js';
import { cut } from './mutate.js';
import { Fault, mustHold, type Target } from './target.js';

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

type Message = Readonly<Record<string, unknown>>;

/** For planted defects. */
export interface QmpClientDefect {
  /** What the client is given instead of what the server says: as one that misreads it would act. */
  readonly misread?: (line: Buffer) => Buffer;
  readonly options?: (options: QmpClientOptions) => QmpClientOptions;
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
      const said = messagesOf(lines.map((line) => line.toString('utf8')).join(''));
      const read = lines.map(misread);
      const whole = await converse(
        read.map((line) => [line]),
        said,
        defect,
      );
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
  { options = (given) => given }: QmpClientDefect,
): Promise<string> {
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

/**
 * The objects that a server says, up to the first thing that is none: from each brace to the first one after it that
 * makes it JSON. Knows nothing of how the client cuts them.
 */
function messagesOf(text: string): Message[] {
  const messages: Message[] = [];
  for (let at = 0; ; ) {
    while (' \t\r\n'.includes(text[at] ?? '.')) at++;
    const end = text[at] === '{' ? endOf(text, at) : undefined;
    if (end === undefined) return messages;
    messages.push(JSON.parse(text.slice(at, end)) as Message);
    at = end;
  }
}

function endOf(text: string, from: number): number | undefined {
  for (
    let end = text.indexOf('}', from) + 1;
    end > 0 && end - from <= MOST_CHARACTERS;
    end = text.indexOf('}', end) + 1
  ) {
    try {
      JSON.parse(text.slice(from, end));
      return end;
    } catch {
      // It ends later.
    }
  }
  return undefined;
}

function nameOf(error: unknown): string {
  if (error instanceof Fault) throw error;
  mustHold(error instanceof QmpError, `it throws ${error instanceof Error ? error.stack : error}`);
  mustHold((error as QmpError).code !== 'ERR_TIMEOUT', 'it waits for a server that has gone');
  return `${(error as QmpError).code} ${(error as QmpError).message}`;
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
