import { Duplex } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { QmpClient, QmpError } from '@xenpv/qmp';
import type { Random } from '../program/random.js';
import { cut } from './mutate.js';
import { mustHold, type Target } from './target.js';

const MOST_CHARACTERS = 4096;
/** Nothing waits for it: the stream ends when it has nothing more to say. */
const ANSWER_MS = 5000;

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

/** A client with a server of no goodwill: one end, however the bytes are cut, and no error but its own. */
export const qmpClient: Target = {
  name: 'qmp-client',
  async read(bytes, random) {
    const lines = linesOf(bytes);
    const whole = await converse(lines.map((line) => [line]));
    const inPieces = await converse(lines.map((line) => cutCharacters(random, line)));
    mustHold(whole === inPieces, `pieces come to another end: ${inPieces}, not ${whole}`);
  },
};

/** What became of it, in words. */
async function converse(lines: Buffer[][]): Promise<string> {
  const server = new Server();
  void server.say(lines);
  try {
    const client = await QmpClient.over(server, { answerMs: ANSWER_MS, mostCharacters: MOST_CHARACTERS });
    const answer = await client.execute('query-block-exports').catch((error: unknown) => nameOf(error));
    client.close();
    await client.closed;
    mustHold(server.told <= 2, `it said ${server.told} things`);
    return JSON.stringify([client.greeting.QMP.version, answer]);
  } catch (error) {
    return nameOf(error);
  } finally {
    server.destroy();
  }
}

function nameOf(error: unknown): string {
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
