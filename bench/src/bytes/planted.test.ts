/**
 * Defects planted in the sources of what reads bytes of peers: each must be noticed by the fuzzer of those bytes. One that
 * nobody notices is a hole in the fuzzer.
 */
import { type PlantedDefect, plantDefects } from '@xenpv/test-support/planted';
import { XenstoreError } from '@xenpv/xenstore';
import { expect, it } from 'vitest';
import { readCorpus } from './corpus.js';
import { nbdClientOf } from './nbd/client.js';
import { nbdServerOf } from './nbd/server.js';
import { qmpClientOf } from './qmp-client.js';
import { qmpServerOf } from './qmp-server.js';
import { readInputs } from './run.js';
import type { Target } from './target.js';
import { xenstoreWireOf } from './xenstore-wire.js';

type Mutant = readonly [what: string, file: string, from: string, to: string];

const NEGOTIATION = 'client-negotiation.ts';
const OPTIONS = 'protocol/options.ts';
const nbdClients: Mutant[] = [
  ['takes a reply to another option', NEGOTIATION, 'reply.option !== asked', 'false'],
  ['waits for a reply of any length', NEGOTIATION, 'reply.length > MAX_REPLY_BYTES', 'false'],
  ['listens to replies without an end', NEGOTIATION, 'replies < MAX_REPLIES', 'true'],
  [
    'takes a refusal for nothing',
    NEGOTIATION,
    'type >= NbdOptionReply.error) throw refused(`the',
    'false) throw refused(`the',
  ],
  ['takes the old negotiation for the new one', NEGOTIATION, '(offered & NbdHandshake.fixedNewstyle) === 0', 'false'],
  [
    'does without a size',
    NEGOTIATION,
    "throw broken('it does not say how large the export is')",
    'return { size: 0, flags: 0, ...DEFAULT_SIZES }',
  ],
  [
    'believes any size',
    OPTIONS,
    'Number.isSafeInteger(size) ? { size, flags: data.readUInt16BE(10) } : undefined',
    '{ size, flags: data.readUInt16BE(10) }',
  ],
  ['reads half of a size', OPTIONS, 'Number(data.readBigUInt64BE(2))', 'data.readUInt32BE(6)'],
  ['believes a least block of any size', OPTIONS, 'minimumBlock <= 65536 && ', ''],
  ['believes a largest block below the least', OPTIONS, ' || maximumBlock < minimumBlock', ''],
  ['keeps what it has of a message for the next one', 'conversation.ts', '    this.#collected.length = 0;\n', ''],
];

const TRANSMISSION = 'server/transmission.ts';
const nbdServers: Mutant[] = [
  [
    'lets a request begin inside and end outside',
    TRANSMISSION,
    'offset + length > this.#disk.size',
    'offset >= this.#disk.size',
  ],
  ['lets through what is not aligned', TRANSMISSION, ' || length % this.#disk.blockSize !== 0', ''],
  ['takes flags that a command does not have', TRANSMISSION, ' || (flags & ~allowed) !== 0', ''],
  [
    'takes the data of a refused write for requests',
    TRANSMISSION,
    'if (isWrite) await this.#reader.skip(request.length);',
    '',
  ],
  [
    'answers in chunks that were not agreed on',
    TRANSMISSION,
    'const structured = this.#structured && ',
    'const structured = ',
  ],
  [
    'answers to another request',
    'protocol/requests.ts',
    'reply.writeUInt32BE(errno, 4);\n  reply.set(cookie, 8);',
    'reply.writeUInt32BE(errno, 4);\n  reply.set(cookie.slice().reverse(), 8);',
  ],
  ['leaves a refused request without an answer', TRANSMISSION, "this.#fail(request, refusal, 'bad request');", ''],
  [
    'says of a write that it is done and does not do it',
    TRANSMISSION,
    'if (data) await this.#disk.write(offset, data);\n    else',
    '',
  ],
  [
    'takes a question about ranges for a write',
    TRANSMISSION,
    '!ASKING.includes(command)',
    'command !== NbdCommand.read',
  ],
  [
    'tells a client of what it has not chosen',
    TRANSMISSION,
    'command === NbdCommand.blockStatus && this.#contexts.length === 0',
    'false',
  ],
  [
    'keeps contexts whose change it refuses',
    'server/negotiation.ts',
    "if (purpose === 'set') state.chosen = undefined;",
    '',
  ],
  ['tells of more ranges than a client asks for', 'server/contexts.ts', 'merged.length === most', 'false'],
  [
    'tells of more bytes than a client asks for',
    'server/contexts.ts',
    'Math.min(extent.length, left)',
    'extent.length',
  ],
  [
    'names contexts before structured replies',
    'server/negotiation.ts',
    'state.structuredReplies ? decodeContextRequest(data) : undefined',
    'decodeContextRequest(data)',
  ],
  ['takes contexts with something behind them', 'protocol/contexts.ts', 'return at === data.length ?', 'return true ?'],
  ['takes the data of a long option for options', 'server/negotiation.ts', 'await reader.skip(length);', ''],
  ['sends zeroes to who does without', 'server/negotiation.ts', 'if (!state.noZeroes)', 'if (state.noZeroes)'],
  [
    'takes a name with something behind it',
    OPTIONS,
    'if (data.length !== 6 + length + 2 * count) return undefined;',
    'if (data.length < 6 + length + 2 * count) return undefined;',
  ],
];

const SPLITTER = 'wire/message-splitter.ts';
const splitters: Mutant[] = [
  ['does not know of escaped quotes', SPLITTER, "else if (character === '\\\\') this.#escaped = true;", ''],
  [
    'takes brackets in strings for brackets',
    SPLITTER,
    "if (character === '\"') this.#inString = true;\n    else if",
    'if',
  ],
  [
    'keeps what it had of a message for the next one',
    SPLITTER,
    "const text = this.#text + chunk.slice(begin, at + 1);\n      this.#text = '';",
    'const text = this.#text + chunk.slice(begin, at + 1);',
  ],
  [
    'loses what it has when the rest comes later',
    SPLITTER,
    'this.#text += chunk.slice(begin);',
    'this.#text = chunk.slice(begin);',
  ],
];

const CHECK = 'schema/check.ts';
const SESSION = 'server/session.ts';
const qmpServers: Mutant[] = [
  ...splitters,
  ['reads JSON of any depth', SPLITTER, '++this.#depth > MOST_DEPTH', '++this.#depth < 0'],
  ['lets members through that nobody knows', CHECK, 'if (strange !== undefined)', 'if (false)'],
  ['does without members that must be there', CHECK, 'else if (bare === name)', 'else if (false)'],
  ['takes negative sizes', CHECK, "type === 'size' && (value as number) < 0", 'false'],
  ['takes any word for one of a list', CHECK, 'allowed.includes(value)', 'true'],
  ['looks at the first of many only', CHECK, 'of value.entries())', 'of [...value.entries()].slice(0, 1))'],
  ['takes numbers that are not whole', CHECK, '!Number.isSafeInteger(value)', "typeof value !== 'number'"],
  ['forgets the number 0', SESSION, "if ('id' in request)", 'if (request.id)'],
  [
    'carries out what comes before the negotiation',
    SESSION,
    'if (!this.#negotiated) {',
    'if (!this.#negotiated && !command) {',
  ],
  ['negotiates twice', SESSION, '    if (this.#negotiated) {', '    if (false) {'],
  ['takes members of a message that nobody knows', SESSION, 'if (strange !== undefined)', 'if (false)'],
];

const CLIENT = 'client/client.ts';
const qmpClients: Mutant[] = [
  ...splitters,
  [
    'takes the next answer for its own',
    CLIENT,
    'this.#settle(id, (waiter) => waiter.resolve(message.return))',
    'this.#settle(this.#last, (waiter) => waiter.resolve(message.return))',
  ],
  ['takes a refusal for an answer', CLIENT, 'waiter.reject(refusal(error))', 'waiter.resolve(error)'],
  ['waits on when the server has gone', CLIENT, "stream.on('end', () => stream.destroy());", ''],
  [
    'takes an event for an answer',
    CLIENT,
    "if (typeof message.event === 'string') this.#onEvent(message as unknown as QmpEvent);\n    else if ('QMP'",
    "if ('QMP'",
  ],
  ['reads messages of any length', SPLITTER, 'if (length > this.#most)', 'if (length < 0)'],
  [
    'throws what JSON throws',
    CLIENT,
    "throw new QmpError('ERR_PROTOCOL', 'receive', 'the server does not speak QMP: its JSON is wrong', { cause });",
    'throw cause;',
  ],
];

const WIRE = 'wire/wire.ts';
const xenstoreWires: Mutant[] = [
  ['believes the length of a header', WIRE, 'length > this.#maxPayload', 'length > 2 ** 32'],
  ['refuses the longest message', WIRE, 'length > this.#maxPayload', 'length >= this.#maxPayload'],
  ['reads numbers with a sign', WIRE, '(bytes[at + 3] << 24)) >>> 0', '(bytes[at + 3] << 24))'],
  ['takes one number for another', WIRE, 'requestId: readU32(bytes, at + 4)', 'requestId: readU32(bytes, at + 8)'],
  ['keeps what it had for the next message', WIRE, '      this.#parts = [];\n', ''],
  ['takes a message for whole too early', WIRE, 'bytes.length < end)', 'bytes.length < end - 1)'],
  ['loses what it has of the next message', WIRE, 'if (rest < bytes.length) this.#keep(bytes.subarray(rest));', ''],
  [
    'drops empty strings',
    WIRE,
    "decodeText(payload).split('\\0')",
    "decodeText(payload).split('\\0').filter((part, i, all) => part !== '' || i === all.length - 1)",
  ],
  ['drops what has no NUL behind it', WIRE, "if (parts.at(-1) === '') parts.pop();", 'parts.pop();'],
];

type Planted<Module> = readonly [
  what: string,
  folder: string,
  file: string,
  target: (module: Module) => Target,
  mutants: readonly Mutant[],
  inputs: number,
];

function planted<Module>(...[who, folder, file, targetOf, mutants, inputs]: Planted<Module>): void {
  it.each(mutants)(`a defect is noticed in ${who} that %s`, async (_what, defectFile, from, to) => {
    const defect: PlantedDefect = { file: defectFile, from, to };
    using sources = plantDefects(new URL(`../../../packages/${folder}/`, import.meta.url), [defect]);
    const target = targetOf(await sources.load<Module>(file));
    const { failure } = await readInputs(target, readCorpus(target.name), { seed: 1, inputs });
    expect(failure?.message).toBeDefined();
  });
}

planted('a client of NBD', 'nbd', 'index.ts', nbdClientOf, nbdClients, 1000);
planted('a server of NBD', 'nbd', 'index.ts', nbdServerOf, nbdServers, 100);
planted('a server of QMP', 'qmp', 'index.ts', qmpServerOf, qmpServers, 300);
planted(
  'a client of QMP',
  'qmp',
  'index.ts',
  (client: NonNullable<Parameters<typeof qmpClientOf>[0]>['client'] & object) => qmpClientOf({ client }),
  qmpClients,
  300,
);
planted('a reader of xenstore’s messages', 'xenstore', WIRE, wireOf, xenstoreWires, 500);

/** The wire alone, with the errors of the package: they are known by their mark. */
function wireOf(wire: Omit<NonNullable<Parameters<typeof xenstoreWireOf>[0]>, 'XenstoreError'>): Target {
  return xenstoreWireOf({ ...wire, XenstoreError });
}
