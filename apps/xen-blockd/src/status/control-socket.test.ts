import { once } from 'node:events';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { askDaemon, type ControlRequest, ControlServer } from './control-socket.js';

let directory: string;
let path: string;
let server: ControlServer;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'control-test-'));
  path = join(directory, 'control');
  server = await ControlServer.listen(path, async ({ command }) =>
    command === 'list' ? { devices: [] } : { error: `no ${command}` },
  );
});
afterEach(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true });
});

/** Sends these bytes and resolves with all that comes until the server ends the connection. */
async function send(bytes: string, options: { readonly andEnd: boolean }): Promise<string> {
  const socket = createConnection(path);
  await once(socket, 'connect');
  socket.write(bytes);
  if (options.andEnd) socket.end();
  return text(socket);
}

describe('the control socket', () => {
  it('is for its owner only', () => {
    expect(statSync(path).mode & 0o077).toBe(0);
  });

  it('answers each line of a connection, in order', async () => {
    const answers = await send('{"command":"list"}\n{"command":"dance"}\n{"command":"list"}\n', { andEnd: true });
    expect(answers).toBe('{"devices":[]}\n{"error":"no dance"}\n{"devices":[]}\n');
  });

  it('answers what is no question with an error, and goes on', async () => {
    const answers = (await send('nonsense\nnull\n{"command":"list"}\n', { andEnd: true })).trim().split('\n');
    expect(answers.map((line) => Object.keys(JSON.parse(line)))).toEqual([['error'], ['error'], ['devices']]);
  });

  it('ends the connection of an endless line, and no other', async () => {
    expect(await send('x'.repeat(5000), { andEnd: false })).toBe('');
    expect(await askDaemon(path, { command: 'list' })).toEqual([]);
  });

  it('ends its connections when it closes', async () => {
    const socket = createConnection(path);
    await once(socket, 'connect');
    const closed = once(socket, 'close');
    await server[Symbol.asyncDispose]();
    await closed;
  });
});

describe('a question to the daemon', () => {
  it('rejects with the words of the daemon', async () => {
    const dance = { command: 'dance' } as unknown as ControlRequest;
    await expect(askDaemon(path, dance)).rejects.toMatchObject({
      code: 'ERR_SOCKET',
      op: 'ask daemon',
      path,
      message: 'the daemon answers: no dance',
    });
  });

  it('says what to do when nobody is there', async () => {
    await expect(askDaemon(join(directory, 'none'), { command: 'list' })).rejects.toMatchObject({
      code: 'ERR_SOCKET',
      message: expect.stringContaining('start it with systemctl start xen-blockd'),
    });
  });
});
