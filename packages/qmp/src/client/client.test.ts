import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { QmpClient } from './client.js';

const GREETING = '{"QMP":{"version":{"qemu":{"major":9,"minor":0,"micro":0},"package":""},"capabilities":[]}}\n';
const folder = mkdtempSync(join(tmpdir(), 'qmp-client-'));
const servers: Server[] = [];
let sockets = 0;

afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A server that says what it is told to, at its beginning and for each line. */
async function serve(first: string, answer: (line: string, socket: Socket) => string | undefined): Promise<string> {
  const path = join(folder, `socket-${sockets++}`);
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.write(first);
    let rest = '';
    socket.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) socket.write(answer(line, socket) ?? '');
    });
  });
  servers.push(server);
  await once(server.listen(path), 'listening');
  return path;
}

const idOf = (line: string) => (JSON.parse(line) as { id: number }).id;
const okay = (line: string) => `{"return":{},"id":${idOf(line)}}\r\n`;

describe('a client of a server of no goodwill', () => {
  it.each([
    ['says nothing', '', { code: 'ERR_TIMEOUT', message: 'the server does not answer within 0.2 seconds' }],
    ['speaks something else', 'SSH-2.0-OpenSSH_9.2\r\n', { code: 'ERR_PROTOCOL' }],
    ['greets with wrong JSON', '{"QMP":nonsense}\n', { code: 'ERR_PROTOCOL' }],
    [
      'greets without a version',
      '{"QMP":{}}\n',
      { code: 'ERR_PROTOCOL', message: expect.stringContaining('without a version') },
    ],
    ['answers before it is asked', '{"return":{},"id":1}\n', { code: 'ERR_PROTOCOL' }],
    ['greets with null', '{"QMP":null}\n', { code: 'ERR_PROTOCOL' }],
    ['refuses to talk', '{"error":{"class":"GenericError","desc":"full"}}\n', { code: 'ERR_COMMAND', message: 'full' }],
    [
      'says too much',
      `{"QMP":"${'x'.repeat(5000)}"}\n`,
      { code: 'ERR_PROTOCOL', message: expect.stringContaining('longer') },
    ],
  ])('that %s is given up', async (_, first, error) => {
    const path = await serve(first, () => undefined);
    await expect(QmpClient.connect(path, { answerMs: 200, mostCharacters: 4096 })).rejects.toMatchObject(error);
  });

  it.each([
    ['nothing', () => undefined, { code: 'ERR_TIMEOUT' }],
    ['an answer to something else', () => '{"return":{},"id":99}\n', { code: 'ERR_PROTOCOL' }],
    ['an answer to nothing', () => '{"return":{}}\n', { code: 'ERR_PROTOCOL' }],
    ['no answer', () => '{"what":1}\n', { code: 'ERR_PROTOCOL' }],
    ['an error that is a word', (line: string) => `{"error":"no","id":${idOf(line)}}\n`, { code: 'ERR_PROTOCOL' }],
    [
      'an error without words',
      (line: string) => `{"error":{},"id":${idOf(line)}}\n`,
      { code: 'ERR_COMMAND', class: 'GenericError' },
    ],
  ])('a command that gets %s rejects', async (_, answer: (line: string) => string | undefined, error) => {
    const path = await serve(GREETING, (line) => (line.includes('qmp_capabilities') ? okay(line) : answer(line)));
    const client = await QmpClient.connect(path, { answerMs: 200 });
    await expect(client.execute('query-status')).rejects.toMatchObject(error);
    client.close();
    await client.closed;
  });

  it('an answer that has come while this process stood still is in time', async () => {
    const path = await serve(GREETING, (line, socket) => {
      if (line.includes('qmp_capabilities')) return okay(line);
      socket.write(okay(line));
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500);
      return undefined;
    });
    const client = await QmpClient.connect(path, { answerMs: 300 });
    expect(await client.execute('query-status')).toEqual({});
    client.close();
  });

  it('answers in any order find their commands, with events in between', async () => {
    const lines: string[] = [];
    const path = await serve(GREETING, (line) => {
      if (line.includes('qmp_capabilities')) return okay(line);
      lines.push(line);
      if (lines.length < 3) return undefined;
      const answers = lines.map(
        (one) => `{"return":"${(JSON.parse(one) as { execute: string }).execute}","id":${idOf(one)}}`,
      );
      return `${answers.reverse().join('{"event":"X","timestamp":{"seconds":1,"microseconds":2}}\n')}\n`;
    });
    const events: string[] = [];
    const client = await QmpClient.connect(path, { onEvent: ({ event }) => events.push(event) });
    expect(await Promise.all(['a', 'b', 'c'].map((name) => client.execute(name)))).toEqual(['a', 'b', 'c']);
    expect(events).toEqual(['X', 'X']);
    client.close();
  });

  it('the end of the server ends what waits, and what comes later', async () => {
    const path = await serve(GREETING, (line, socket) => {
      if (line.includes('qmp_capabilities')) return okay(line);
      socket.destroy();
      return undefined;
    });
    const client = await QmpClient.connect(path);
    await expect(client.execute('query-status')).rejects.toMatchObject({ code: 'ERR_ENDED' });
    await client.closed;
    await expect(client.execute('query-status')).rejects.toMatchObject({ code: 'ERR_ENDED' });
  });

  it('the end of a server that has not read all is an end like any other', async () => {
    const path = await serve(GREETING, (line, socket) => {
      // What comes from now on stays in the socket, whose end is a reset then.
      socket.pause();
      setTimeout(() => socket.destroy(), 50);
      return okay(line);
    });
    const client = await QmpClient.connect(path);
    const asked = client.execute('query-status', { much: 'x'.repeat(1 << 18) });
    await expect(asked).rejects.toMatchObject({ code: 'ERR_ENDED', cause: { code: 'ECONNRESET' } });
    await client.closed;
  });

  it('a signal ends it with its reason', async () => {
    const path = await serve(GREETING, () => undefined);
    const ending = new AbortController();
    const connecting = QmpClient.connect(path, { signal: ending.signal });
    ending.abort(new Error('enough'));
    await expect(connecting).rejects.toThrow('enough');
    await expect(QmpClient.connect(path, { signal: ending.signal })).rejects.toThrow('enough');
  });

  it('a signal ends the wait for one answer, and the conversation goes on', async () => {
    const held: string[] = [];
    const path = await serve(GREETING, (line) => {
      if (!line.includes('slow')) return `${held.splice(0).map(okay).join('')}${okay(line)}`;
      held.push(line);
      return undefined;
    });
    const client = await QmpClient.connect(path);
    const ending = new AbortController();
    const slow = client.execute('slow', {}, { signal: ending.signal });
    ending.abort(new Error('enough'));
    await expect(slow).rejects.toThrow('enough');
    await expect(client.execute('slow', {}, { signal: ending.signal })).rejects.toThrow('enough');
    // Only the first was asked; its answer comes late, and is dropped.
    await expect.poll(() => held.length).toBe(1);
    expect(await client.execute('quick', {}, { signal: new AbortController().signal })).toEqual({});
    expect(held).toEqual([]);
    client.close();
  });

  it('where nobody is, the error is the one of the system', async () => {
    await expect(QmpClient.connect(join(folder, 'nobody'))).rejects.toMatchObject({ code: 'ENOENT' });
  });
});
