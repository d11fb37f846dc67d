import { existsSync, linkSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { listenOnUnixSocket } from './unix-socket.js';

let directory: string;
let path: string;
let server: Server;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'socket-test-'));
  path = join(directory, 'socket');
  server = createServer();
});

afterEach(async () => {
  await new Promise((resolve) => server.close(resolve));
  rmSync(directory, { recursive: true });
});

describe('a Unix socket', () => {
  it('refuses one in use, and leaves it alone', async () => {
    await listenOnUnixSocket(server, path);
    await expect(listenOnUnixSocket(createServer(), path)).rejects.toMatchObject({
      code: 'EADDRINUSE',
      path,
      message: expect.stringContaining('in use'),
    });
    expect(existsSync(path)).toBe(true);
  });

  it('replaces one that its owner left behind', async () => {
    const left = createServer();
    await new Promise<void>((resolve) => left.listen(`${path}.left`, resolve));
    linkSync(`${path}.left`, path);
    await new Promise((resolve) => left.close(resolve));
    await listenOnUnixSocket(server, path);
    await new Promise((resolve) => server.close(resolve));
    expect(existsSync(path)).toBe(false);
  });

  it('refuses a file that is no socket, a missing directory and a path that is too long', async () => {
    writeFileSync(path, 'precious');
    const refusal = (path: string) => listenOnUnixSocket(createServer(), path).catch((error: Error) => error);
    expect(await refusal(path)).toMatchObject({ code: 'EEXIST', message: expect.stringContaining('not a socket') });
    expect(readFileSync(path, 'utf8')).toBe('precious');
    expect(await refusal(join(directory, 'no', 'socket'))).toMatchObject({
      code: 'ENOENT',
      message: expect.stringContaining('directory does not exist'),
    });
    expect(await refusal(join(directory, 'x'.repeat(100)))).toMatchObject({
      code: 'ENAMETOOLONG',
      message: expect.stringContaining('longer than 107 bytes'),
    });
  });
});
