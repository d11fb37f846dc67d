import { MessageDecoder } from '@xenpv/xenstore';
import { expect, it } from 'vitest';
import { readCorpus } from './bytes/corpus.js';
import { cut } from './bytes/mutate.js';
import { readInputs } from './bytes/run.js';
import { mustHold, type Target } from './bytes/target.js';
import { TARGETS } from './bytes/targets.js';

const SECONDS = 60;
/** Some go through the event loop. */
const INPUTS: Record<string, number> = {
  'nbd-server': 100,
  'xenstore-wire': 200,
  'qmp-client': 300,
  'qmp-server': 300,
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
