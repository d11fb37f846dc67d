import {
  type BlockImage,
  type BlockQueue,
  type CompletionListener,
  ImageWrapper,
  type QueueOptions,
  QueueWrapper,
} from '@xenpv/blockdev';
import { MessageDecoder } from '@xenpv/xenstore';
import { expect, it } from 'vitest';
import { readCorpus } from './bytes/corpus.js';
import { cut } from './bytes/mutate.js';
import { type NbdRepliesDefect, nbdRepliesOf } from './bytes/nbd/replies.js';
import { type QmpClientDefect, qmpClientOf } from './bytes/qmp-client.js';
import { readInputs } from './bytes/run.js';
import { mustHold, type Target } from './bytes/target.js';
import { TARGETS } from './bytes/targets.js';

const SECONDS = 60;
/** Some go through the event loop. */
const INPUTS: Record<string, number> = {
  'nbd-replies': 200,
  'nbd-server': 100,
  'xenstore-wire': 200,
  'qmp-client': 300,
  'qmp-server': 150,
};

/** Some hundreds of inputs; `npm run fuzz:bytes` is the long form. */
it.each(TARGETS.map((target) => [target.name, target] as const))(
  'whatever a peer sends, it comes to one end, and nothing that it says is believed unchecked: %s',
  async (name, target) => {
    const inputs = INPUTS[name] ?? 1000;
    expect(await readInputs(target, readCorpus(name), { seed: 1, inputs })).toEqual({ done: inputs });
  },
  SECONDS * 1000,
);

const PLANTED: Target[] = [
  {
    name: 'believes the length of a header',
    read: (bytes) => {
      for (const { payload } of new MessageDecoder(2 ** 32).push(bytes)) mustHold(payload.length <= 4096, 'too long');
    },
  },
  {
    name: 'forgets what it has of a header when the rest comes later',
    read: (bytes, random) => {
      const messages = (pieces: readonly Buffer[]) =>
        pieces.reduce((sum, piece) => sum + new MessageDecoder(2 ** 32).push(piece).length, 0);
      mustHold(messages([bytes]) === messages(cut(random, bytes)), 'other messages');
    },
  },
  {
    name: 'throws something of its own',
    read: (bytes) => {
      if (bytes.length >= 20) bytes.subarray(bytes.readUInt32LE(12)).readUInt32LE(0);
    },
  },
];

it.each(PLANTED.map((target) => [target.name, target] as const))(
  'a defect is noticed: one that %s',
  async (_name, target) => {
    const { failure } = await readInputs(target, readCorpus('xenstore-wire'), { seed: 1, inputs: 2000 });
    expect(failure?.bytes.length).toBeGreaterThan(0);
  },
);

/** A queue whose ends are told in another way. */
class LyingQueue extends QueueWrapper {
  readonly #lie: (listener: CompletionListener) => CompletionListener;

  constructor(inner: BlockQueue, lie: (listener: CompletionListener) => CompletionListener) {
    super(inner);
    this.#lie = lie;
  }

  override onComplete(listener: CompletionListener): void {
    super.onComplete(this.#lie(listener));
  }
}

/** `lie` gets the memory of the queue too. */
function lying(lie: (listener: CompletionListener, memory: Buffer) => CompletionListener) {
  return class extends ImageWrapper {
    override createQueue(options: QueueOptions): BlockQueue {
      return new LyingQueue(super.createQueue(options), (listener) => lie(listener, Buffer.from(options.memory)));
    }
  };
}

const wrapIn = (Wrapper: new (inner: BlockImage) => BlockImage) => (image: BlockImage) => new Wrapper(image);

/** With other bytes, in hexadecimal, instead of some, where those are. */
function misread(from: string, to: string): NbdRepliesDefect {
  return { misread: (bytes) => Buffer.from(bytes.toString('hex').replace(from, to), 'hex') };
}

it.each<[string, NbdRepliesDefect]>([
  [
    'ends twice what the server ends',
    {
      wrap: wrapIn(
        lying((listener) => (tags, results, count) => {
          listener(tags, results, count);
          listener(tags, results, count);
        }),
      ),
    },
  ],
  [
    'ends a failure as done',
    {
      wrap: wrapIn(
        lying((listener) => (tags, results, count) => {
          listener(tags, results.map(Math.abs), count);
        }),
      ),
    },
  ],
  [
    'never ends what nobody answers',
    {
      endsMs: 2000,
      wrap: wrapIn(
        lying((listener) => (tags, results, count) => {
          for (let i = 0; i < count; i++) if (results[i] !== -5) listener(tags.subarray(i), results.subarray(i), 1);
        }),
      ),
    },
  ],
  [
    'writes past the memory of a read',
    {
      wrap: wrapIn(
        lying((listener, memory) => (tags, results, count) => {
          memory.writeUInt8(0, 1024);
          listener(tags, results, count);
        }),
      ),
    },
  ],
  [
    'gives what it had in its memory for what was read',
    {
      wrap: wrapIn(
        lying((listener, memory) => (tags, results, count) => {
          memory.fill(0x55, 512, 1024);
          listener(tags, results, count);
        }),
      ),
    },
  ],
  ['takes a structured reply for a simple one', misread('668e33ef00010001', '6744669800000000')],
  ['looks at half of a cookie', misread('0000000100000001', '0000000000000001')],
  [
    'takes the end of an answer that was cut off for zeroes',
    { misread: (bytes) => Buffer.concat([bytes, Buffer.alloc(2048)]) },
  ],
  ['takes an error that it does not know for another', misread('80000016', '00000016')],
])('a defect is noticed in a client of NBD that %s', async (_name, defect) => {
  const { failure } = await readInputs(nbdRepliesOf(defect), readCorpus('nbd-replies'), { seed: 1, inputs: 0 });
  expect(failure?.message).toContain('Fault');
});

const swapped = (from: string, to: string) => (line: Buffer) => Buffer.from(line.toString('utf8').replaceAll(from, to));

it.each<[string, QmpClientDefect]>([
  ['takes an answer to something else', { misread: swapped('"id":7', '"id":2') }],
  ['gives other words than it was answered', { misread: swapped('"return":[]', '"return":{}') }],
  ['loses an event', { misread: swapped('"event":"B"', '"event":"C"') }],
  [
    'tells an event twice',
    {
      options: ({ onEvent, ...options }) => ({
        ...options,
        onEvent: (event) => {
          onEvent?.(event);
          onEvent?.(event);
        },
      }),
    },
  ],
  ['takes messages of any length', { options: (options) => ({ ...options, mostCharacters: 1 << 20 }) }],
])('a defect is noticed in a client of QMP that %s', async (_name, defect) => {
  const { failure } = await readInputs(qmpClientOf(defect), readCorpus('qmp-client'), { seed: 1, inputs: 200 });
  expect(failure?.message).toContain('Fault');
});
