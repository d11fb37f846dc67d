import { Duplex } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { QmpServer, qmpCommand } from '@xenpv/qmp';
import { cut } from './mutate.js';
import { mustHold, type Target } from './target.js';

const MOST_TURNS = 20_000;

/** A client that has said all that it will say. */
class Client extends Duplex {
  said = '';

  constructor(pieces: readonly Buffer[]) {
    super();
    for (const piece of pieces) this.push(piece);
    this.push(null);
  }

  override _read(): void {}

  override _write(bytes: Buffer, _encoding: string, done: () => void): void {
    this.said += bytes.toString();
    done();
  }
}

/**
 * A server with a client of no goodwill: each thing that it says is JSON on a line, an answer or a refusal; the same
 * however the bytes are cut; no command is given what its types do not allow; and the conversation ends.
 */
export const qmpServer: Target = {
  name: 'qmp-server',
  async read(bytes, random) {
    const text = Buffer.from(bytes.toString('utf8'));
    const whole = await converse([text]);
    const inPieces = await converse(cut(random, text));
    mustHold(whole === inPieces, 'pieces come to other answers');
    for (const line of whole.split('\r\n').slice(1, -1)) {
      const answer = JSON.parse(line) as { error?: { class?: unknown; desc?: unknown } };
      mustHold('return' in answer !== 'error' in answer, `an answer is ${line}`);
      mustHold(!answer.error || typeof answer.error.desc === 'string', `a refusal is ${line}`);
    }
  },
};

async function converse(pieces: readonly Buffer[]): Promise<string> {
  const faults: string[] = [];
  const echo = qmpCommand({
    members: { text: 'str', 'times?': 'size' },
    returns: 'str',
    run: (args) => {
      const { text, times = 1, ...rest } = args;
      if (typeof text !== 'string' || !Number.isInteger(times) || times < 0) faults.push(JSON.stringify(args));
      if (Object.keys(rest).length > 0) faults.push(JSON.stringify(rest));
      return text.repeat(Math.min(times, 10));
    },
  });
  const version = { qemu: { major: 1, minor: 0, micro: 0 }, package: '' };
  const server = new QmpServer({ commands: { echo }, version });
  const client = new Client(pieces);
  server.listener.emit('connection', client);
  for (let turn = 0; !client.destroyed; turn++) {
    mustHold(turn < MOST_TURNS, 'the conversation does not end');
    await nextTurn();
  }
  mustHold(faults.length === 0, `a command is given ${faults[0]}`);
  return client.said;
}
