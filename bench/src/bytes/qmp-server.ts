import { Duplex } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import * as qmp from '@xenpv/qmp';
import { type Message, messagesOf } from './json-messages.js';
import { cut } from './mutate.js';
import { say } from './say.js';
import { mustHold, type Target } from './target.js';

/** The parts of the package that are fuzzed. */
type Qmp = Pick<typeof qmp, 'QmpServer' | 'qmpCommand'>;

const MOST_TURNS = 20_000;
const MOST_CHARACTERS = 1 << 20;
const MOST_DEPTH = 1024;
const VERSION = { qemu: { major: 1, minor: 0, micro: 0 }, package: '' };
/** Those whose answers are long are only looked at for whether they are refused. */
const OWN = ['query-version', 'query-commands', 'query-qmp-schema'];

/** A client that has said all that it will say. */
class Client extends Duplex {
  said = '';

  override _read(): void {}

  override _write(bytes: Buffer, _encoding: string, done: () => void): void {
    this.said += bytes.toString();
    done();
  }
}

/**
 * A server with a client of no goodwill: each thing that it says is JSON on a line, an answer or a refusal; the same
 * however the bytes are cut; what was asked before the first thing that is no JSON is answered in its order, by its own
 * number, done or refused as a reader of its own has it; no command is given what its types do not allow; and the
 * conversation ends.
 */
export function qmpServerOf(server: Qmp = qmp): Target {
  return {
    name: 'qmp-server',
    async read(bytes, random) {
      const text = Buffer.from(bytes.toString('utf8'));
      const whole = await converse(server, [text]);
      const inPieces = await converse(server, cut(random, text));
      mustHold(whole === inPieces, 'pieces come to other answers');
      const answers = whole
        .split('\n')
        .slice(1, -1)
        .map((line) => JSON.parse(line) as Message);
      for (const answer of answers) checkForm(answer);
      checkAnswers(answers, messagesOf(text.toString('utf8'), MOST_CHARACTERS));
    },
  };
}

export const qmpServer: Target = qmpServerOf();

async function converse({ QmpServer, qmpCommand }: Qmp, pieces: readonly Buffer[]): Promise<string> {
  const faults: string[] = [];
  const echo = qmpCommand({
    members: {
      text: 'str',
      'times?': 'size',
      'how?': { enum: ['loud', 'soft'] },
      'parts?': { array: { object: { at: 'int', 'on?': 'bool' } } },
    },
    returns: 'any',
    run: (args) => {
      if (!isEcho(args)) faults.push(JSON.stringify(args));
      return args;
    },
  });
  const server = new QmpServer({ commands: { echo }, version: VERSION });
  const client = new Client();
  server.listener.emit('connection', client);
  void say(client, pieces);
  for (let turn = 0; !client.destroyed; turn++) {
    mustHold(turn < MOST_TURNS, 'the conversation does not end');
    await nextTurn();
  }
  mustHold(faults.length === 0, `a command is given ${faults[0]}`);
  return client.said;
}

/** Whether these are arguments of `echo`; knows nothing of how the package checks them. */
function isEcho(args: unknown): boolean {
  if (!isObject(args, ['text', 'times', 'how', 'parts']) || typeof args.text !== 'string') return false;
  const { times = 0, how = 'soft', parts = [] } = args;
  if (!Number.isSafeInteger(times) || (times as number) < 0 || (how !== 'soft' && how !== 'loud')) return false;
  return Array.isArray(parts) && parts.every(isPart);
}

function isPart(value: unknown): boolean {
  return (
    isObject(value, ['at', 'on']) &&
    Number.isSafeInteger(value.at) &&
    typeof (value.on ?? true) === 'boolean' &&
    value.on !== null
  );
}

function isObject(value: unknown, names: readonly string[]): value is Message {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  return Object.keys(value).every((name) => names.includes(name));
}

function checkForm(answer: Message): void {
  const { error } = answer as { error?: { class?: unknown; desc?: unknown } };
  mustHold('return' in answer !== 'error' in answer, `an answer is ${JSON.stringify(answer)}`);
  mustHold(!error || typeof error.desc === 'string', `a refusal is ${JSON.stringify(answer)}`);
}

/** Those to what was asked, up to what ends the conversation. */
function checkAnswers(answers: readonly Message[], asked: readonly Message[]): void {
  let isReady = false;
  for (const [i, message] of asked.entries()) {
    const answer = answers[i];
    const told = `${JSON.stringify(answer)} is the answer to ${JSON.stringify(message)}`;
    if (depthOf(message) > MOST_DEPTH) {
      mustHold(
        answers.length === i + 1 && 'error' in (answer ?? {}),
        `what is too deep does not end it: ${answers.length}`,
      );
      return;
    }
    mustHold(answer !== undefined && isDeepStrictEqual(answer.id, message.id), told);
    const negotiates = message.execute === 'qmp_capabilities' && !isReady;
    const isDone = isSaid(message) && (negotiates ? wantsNothing(message) : isReady && isCommand(message));
    mustHold('return' in (answer ?? {}) === isDone, told);
    if (isDone && message.execute === 'echo') mustHold(isDeepStrictEqual(answer.return, message.arguments), told);
    if (negotiates && isDone) isReady = true;
  }
}

/** Whether it is a command of the protocol at all. */
function isSaid(message: Message): boolean {
  const { arguments: args = {} } = message;
  if (!isObject(message, ['execute', 'arguments', 'id'])) return false;
  return typeof args === 'object' && args !== null && !Array.isArray(args);
}

function wantsNothing({ arguments: args = {} }: Message): boolean {
  const { enable = [] } = args as { enable?: unknown };
  return !Array.isArray(enable) || enable.length === 0;
}

function isCommand({ execute, arguments: args = {} }: Message): boolean {
  if (execute === 'echo') return isEcho(args);
  return OWN.includes(String(execute)) && typeof execute === 'string' && Object.keys(args as object).length === 0;
}

/** Of brackets. */
function depthOf(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0;
  return 1 + Math.max(0, ...Object.values(value).map(depthOf));
}
