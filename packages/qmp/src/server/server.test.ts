import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createConnection, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { QmpClient } from '../client/client.js';
import { QmpError } from '../errors.js';
import type { QmpEvent } from '../wire/messages.js';
import { qmpCommand } from './command.js';
import { QmpServer } from './server.js';

const VERSION = { qemu: { major: 9, minor: 2, micro: 0 }, package: 'test' };
const folder = mkdtempSync(join(tmpdir(), 'qmp-test-'));
const path = join(folder, 'socket');
let server: QmpServer;
let running: (() => void) | undefined;
let ends: AbortSignal | undefined;

const commands = {
  echo: qmpCommand({
    members: { text: 'str', 'times?': 'size' },
    returns: 'any',
    run: ({ text, times = 1 }) => text.repeat(times),
  }),
  wait: qmpCommand({
    members: {},
    run: (_, { signal }) => {
      ends = signal;
      return new Promise<void>((resolve) => {
        running = resolve;
      });
    },
  }),
  refuse: qmpCommand({
    members: {},
    run: () => {
      throw QmpError.refusal('there is no such disk', 'DeviceNotFound');
    },
  }),
  fail: qmpCommand({
    members: {},
    run: () => {
      throw new TypeError('a fault');
    },
  }),
  nested: qmpCommand({
    members: {
      mode: { enum: ['on', 'off'] },
      disk: { object: { id: 'str', 'size?': 'size' } },
      'list?': { array: 'int' },
      'rest?': 'any',
      'flag?': 'bool',
      'share?': 'number',
    },
    returns: { array: { object: { mode: 'str' } } },
    run: ({ mode, disk, list = [] }) => [{ mode, id: disk.id, list }],
  }),
};

beforeEach(async () => {
  running = undefined;
  server = new QmpServer({ commands, events: { HAPPENED: { what: 'str' } }, version: VERSION, clients: 3 });
  await once(server.listener.listen(path), 'listening');
  return async () => {
    await server.close();
  };
});
afterEach(() => vi.restoreAllMocks());
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

/** A client that says what it likes. */
class Raw {
  readonly socket: Socket;
  text = '';

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('error', () => {});
    socket.setEncoding('utf8').on('data', (text) => {
      this.text += text;
    });
  }

  static async connect(): Promise<Raw> {
    const socket = createConnection(path);
    const raw = new Raw(socket);
    await once(socket, 'connect');
    return raw;
  }

  get messages(): unknown[] {
    return this.text
      .split('\r\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line));
  }

  /** All that it has been told when it has been told so much, the greeting included. */
  async told(count: number): Promise<unknown[]> {
    await expect.poll(() => this.messages.length).toBe(count);
    return this.messages;
  }

  say(text: string): void {
    this.socket.write(text);
  }
}

async function negotiated(): Promise<Raw> {
  const raw = await Raw.connect();
  raw.say('{"execute":"qmp_capabilities"}\n');
  await raw.told(2);
  return raw;
}

const refused = (desc: unknown, errorClass = 'GenericError') => ({ error: { class: errorClass, desc } });

describe('a conversation', () => {
  it('begins with a greeting, and takes nothing before the negotiation', async () => {
    const raw = await Raw.connect();
    raw.say('{"execute":"echo","arguments":{"text":"a"},"id":7}');
    expect(await raw.told(2)).toEqual([
      { QMP: { version: VERSION, capabilities: [] } },
      { ...refused("Expecting capabilities negotiation with 'qmp_capabilities'", 'CommandNotFound'), id: 7 },
    ]);
  });

  it('negotiates once, and no capability that there is not', async () => {
    const raw = await Raw.connect();
    raw.say('{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}');
    raw.say('{"execute":"qmp_capabilities"}{"execute":"qmp_capabilities"}');
    expect((await raw.told(4)).slice(1)).toEqual([
      refused("Capability 'oob' is not available"),
      { return: {} },
      refused('Capabilities negotiation is already complete, command ignored', 'CommandNotFound'),
    ]);
  });

  it.each([
    ['no JSON', 'nonsense\n', refused('JSON parse error, expecting value')],
    ['an array', '[1]\n', refused('JSON parse error, expecting value')],
    ['wrong JSON', '{"execute":}\n', refused(expect.stringContaining('JSON parse error'))],
    ['no command', '{}', refused("QMP input lacks member 'execute'")],
    ['a command that is a number', '{"execute":1}', refused("QMP input member 'execute' must be a string")],
    [
      'arguments that are an array',
      '{"execute":"echo","arguments":[]}',
      refused(expect.stringContaining('must be an object')),
    ],
    ['more than there is', '{"execute":"echo","extra":1}', refused("QMP input member 'extra' is unexpected")],
    ['a command out of band', '{"exec-oob":"echo"}', refused("QMP input member 'exec-oob' is unexpected")],
    ['an unknown command', '{"execute":"dance"}', refused('The command dance has not been found', 'CommandNotFound')],
    ['a name of every object', '{"execute":"constructor"}', refused(expect.anything(), 'CommandNotFound')],
    ['nothing', '{"execute":"echo"}', refused("Parameter 'text' is missing")],
    ['a refusal with a class', '{"execute":"refuse"}', refused('there is no such disk', 'DeviceNotFound')],
    ['a fault', '{"execute":"fail"}', refused('a fault')],
  ])('%s gets its answer, and the next command too', async (_, said, answer) => {
    const raw = await negotiated();
    raw.say(said);
    raw.say('{"execute":"echo","arguments":{"text":"on"},"id":{"a":[1]}}');
    expect((await raw.told(4)).slice(2)).toEqual([answer, { return: 'on', id: { a: [1] } }]);
  });

  it('a megabyte in one line ends it, after a word, and no other', async () => {
    const [raw, other] = [await negotiated(), await negotiated()];
    const closed = once(raw.socket, 'close');
    raw.say(`{"execute":"${'x'.repeat(1 << 20)}`);
    await closed;
    expect(raw.messages.at(-1)).toEqual(refused('a message is longer than 1048576 characters'));
    other.say('{"execute":"echo","arguments":{"text":"on"}}');
    expect((await other.told(3))[2]).toEqual({ return: 'on' });
  });

  it('half a line and an end are no command', async () => {
    const raw = await negotiated();
    raw.socket.end('{"execute":"echo","argu');
    await once(raw.socket, 'close');
    expect(raw.messages).toHaveLength(2);
  });

  it('commands are carried out one after the other', async () => {
    const raw = await negotiated();
    raw.say('{"execute":"wait","id":1}{"execute":"echo","arguments":{"text":"b"},"id":2}');
    await expect.poll(() => running).toBeDefined();
    await sleep(20);
    expect(raw.messages).toHaveLength(2);
    running?.();
    expect((await raw.told(4)).slice(2)).toEqual([
      { return: {}, id: 1 },
      { return: 'b', id: 2 },
    ]);
  });

  it('a command hears that its client has gone', async () => {
    const raw = await negotiated();
    raw.say('{"execute":"wait"}');
    await expect.poll(() => ends).toBeDefined();
    raw.socket.destroy();
    await expect.poll(() => ends?.aborted).toBe(true);
    running?.();
  });

  it('one client more than there may be is told so', async () => {
    for (let i = 0; i < 3; i++) await negotiated();
    const raw = await Raw.connect();
    await once(raw.socket, 'end');
    expect(raw.messages).toEqual([refused('there are 3 clients already; try again when one has gone')]);
  });

  it('a thousand connections that come and go leave nothing', async () => {
    for (let i = 0; i < 100; i++) {
      const sockets = Array.from({ length: 10 }, () => createConnection(path).on('error', () => {}));
      await Promise.allSettled(sockets.map((socket) => once(socket, 'connect')));
      for (const socket of sockets) socket.destroy();
    }
    await expect
      .poll(async () => {
        const client = await QmpClient.connect(path).catch(() => undefined);
        client?.close();
        return client !== undefined;
      })
      .toBe(true);
  });

  it('a client that reads nothing of what happens is let go', async () => {
    const raw = await negotiated();
    raw.socket.pause();
    const closed = once(raw.socket, 'close');
    for (let i = 0; i < 200; i++) server.announce('HAPPENED', { what: 'x'.repeat(100_000) });
    raw.socket.resume();
    await closed;
  });
});

describe('arguments', () => {
  const good = { mode: 'on', disk: { id: 'a' } };

  it('of every type reach the command', async () => {
    await using client = await QmpClient.connect(path);
    const args = { ...good, list: [1, -2], rest: null, flag: true, share: 0.5 };
    expect(await client.execute('nested', args)).toEqual([{ mode: 'on', id: 'a', list: [1, -2] }]);
  });

  it.each([
    [{ ...good, mode: 'up' }, "Parameter 'mode' does not accept value 'up'; it is one of on, off"],
    [{ ...good, mode: 1 }, "Invalid parameter type for 'mode', expected: string"],
    [{ ...good, disk: 'a' }, "Invalid parameter type for 'disk', expected: object"],
    [{ ...good, disk: {} }, "Parameter 'disk.id' is missing"],
    [{ ...good, disk: { id: 'a', size: -1 } }, "Parameter 'disk.size' must not be negative"],
    [{ ...good, disk: { id: 'a', size: 1.5 } }, "Invalid parameter type for 'disk.size', expected: integer"],
    [{ ...good, disk: { id: 'a', size: 2 ** 60 } }, "Invalid parameter type for 'disk.size', expected: integer"],
    [{ ...good, disk: { id: 'a', more: 1 } }, "Parameter 'disk.more' is unexpected"],
    [{ ...good, list: [1, 'b'] }, "Invalid parameter type for 'list[1]', expected: integer"],
    [{ ...good, list: 1 }, "Invalid parameter type for 'list', expected: array"],
    [{ ...good, flag: 'yes' }, "Invalid parameter type for 'flag', expected: boolean"],
    [{ ...good, share: '1' }, "Invalid parameter type for 'share', expected: number"],
  ])('%j: %s', async (args, message) => {
    await using client = await QmpClient.connect(path);
    await expect(client.execute('nested', args)).rejects.toMatchObject({
      code: 'ERR_COMMAND',
      class: 'GenericError',
      message,
    });
  });
});

describe('what is there', () => {
  it('is told by query-commands, query-version and query-qmp-schema', async () => {
    await using client = await QmpClient.connect(path);
    const names = ((await client.execute('query-commands')) as { name: string }[]).map(({ name }) => name);
    expect(names).toEqual(
      expect.arrayContaining(['qmp_capabilities', 'query-commands', 'query-version', 'query-qmp-schema', 'nested']),
    );
    expect(await client.execute('query-version')).toEqual(VERSION);
    expect(client.greeting.QMP.version).toEqual(VERSION);
    const schema = (await client.execute('query-qmp-schema')) as { name: string; 'meta-type': string }[];
    const byName = new Map(schema.map((info) => [info.name, info as Record<string, unknown>]));
    expect(byName.size).toBe(schema.length);
    const nested = byName.get(byName.get('nested')?.['arg-type'] as string);
    expect(nested).toMatchObject({ 'meta-type': 'object' });
    const members = nested?.members as { name: string; type: string; default?: null }[];
    expect(members.map(({ name }) => name)).toEqual(['mode', 'disk', 'list', 'rest', 'flag', 'share']);
    expect(members.filter((member) => 'default' in member).map(({ name }) => name)).toEqual([
      'list',
      'rest',
      'flag',
      'share',
    ]);
    for (const { type } of members) expect(byName.has(type)).toBe(true);
    expect(byName.get(members[0].type)).toMatchObject({ 'meta-type': 'enum', values: ['on', 'off'] });
    expect(byName.get('HAPPENED')).toMatchObject({ 'meta-type': 'event' });
  });

  it('what happens is told to those who have negotiated', async () => {
    const events: QmpEvent[] = [];
    await using client = await QmpClient.connect(path, { onEvent: (event) => events.push(event) });
    const raw = await Raw.connect();
    await raw.told(1);
    server.announce('HAPPENED', { what: 'this' });
    await client.execute('query-version');
    expect(events).toEqual([{ event: 'HAPPENED', data: { what: 'this' }, timestamp: expect.anything() }]);
    expect(events[0].timestamp.seconds).toBeGreaterThan(1.7e9);
    expect(raw.messages).toHaveLength(1);
  });
});

it('closing ends all conversations', async () => {
  const raw = await negotiated();
  const client = await QmpClient.connect(path);
  const closed = once(raw.socket, 'close');
  await server.close();
  await Promise.all([closed, client.closed]);
  await expect(client.execute('query-version')).rejects.toMatchObject({ code: 'ERR_ENDED' });
});
