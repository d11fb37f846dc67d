import { createServer } from 'node:net';
import { expect, it } from 'vitest';
import { BlockdError } from './errors.js';
import { listenOnUnixSocket, prepareSocketPath } from './unix-socket.js';

it('an unusable path of a socket is the daemon’s own error, which says what to do', async () => {
  const path = '/no such directory/socket';
  const expected = { code: 'ERR_SOCKET', message: expect.stringContaining('create it or choose another path') };
  await expect(listenOnUnixSocket(createServer(), path)).rejects.toMatchObject(expected);
  await expect(prepareSocketPath(path)).rejects.toBeInstanceOf(BlockdError);
});
