import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { NBD_REQUEST_BYTES, NBD_SIMPLE_REPLY_BYTES, NbdFlag } from '@xenpv/nbd';
import { afterAll, afterEach, expect, test } from 'vitest';
import { type BlockImage, BlockOp } from '../block-image.js';
import { allocateMemory } from '../queue/buffer.js';
import { QueueDriver } from '../testing/queue-driver.js';
import { openNbdImage } from './image.js';

const { EIO } = constants.errno;

const folder = mkdtempSync(join(tmpdir(), 'blockdev-'));
const clients = new Set<Socket>();
let sockets = 0;
let close = async (): Promise<void> => {};

afterEach(() => close());
afterAll(() => rmSync(folder, { recursive: true }));

function uint(bytes: number, value: number): Buffer {
  const field = Buffer.alloc(bytes);
  field.writeUIntBE(value, Math.max(0, bytes - 6), Math.min(bytes, 6));
  return field;
}

function optionReply(type: number, ...data: Buffer[]): Buffer {
  const payload = Buffer.concat(data);
  return Buffer.concat([
    Buffer.from('0003e889045565a9', 'hex'),
    uint(4, 7),
    uint(4, type),
    uint(4, payload.length),
    payload,
  ]);
}

/** A simple reply as a server of no goodwill makes it. */
function simpleReply(cookie: Uint8Array, errno: number, magic = 0x67446698): Buffer {
  const reply = Buffer.concat([uint(4, magic), uint(4, errno), cookie]);
  expect(reply.length).toBe(NBD_SIMPLE_REPLY_BYTES);
  return reply;
}

/** Accepts every client; `sizes` has the size of the export for each connection. `answer` gets each request's cookie. */
async function openFrom(answer: (socket: Socket, cookie: Buffer) => void, sizes = [65536]): Promise<BlockImage> {
  const socketPath = join(folder, `server-${sockets++}`);
  const server = createServer((socket) => {
    clients.add(socket);
    socket.on('error', () => {});
    socket.write(Buffer.concat([Buffer.from('NBDMAGICIHAVEOPT'), uint(2, 3)]));
    socket.once('data', () => {
      const size = sizes.length > 1 ? sizes.shift() : sizes[0];
      socket.write(optionReply(3, uint(2, 0), uint(8, size ?? 0), uint(2, NbdFlag.hasFlags | NbdFlag.sendFlush)));
      socket.write(optionReply(1));
      socket.on('data', (bytes) => {
        for (let at = 0; at < bytes.length; at += NBD_REQUEST_BYTES) answer(socket, bytes.subarray(at + 8, at + 16));
      });
    });
  });
  await once(server.listen(socketPath), 'listening');
  const image = await openNbdImage(socketPath, { reconnect: 100 });
  close = async () => {
    await image.close();
    for (const client of clients) client.destroy();
    clients.clear();
    server.close();
  };
  return image;
}

function read(image: BlockImage): Promise<number> {
  return new QueueDriver(image.createQueue({ depth: 1, memory: allocateMemory(4096) })).run(BlockOp.read, 0, 4096);
}

test.each([1, 4095])('errno %i is passed on', async (errno) => {
  const image = await openFrom((socket, cookie) => socket.write(simpleReply(cookie, errno)));
  expect(await read(image)).toBe(-errno);
});

test.each([4096, 2 ** 31, 2 ** 32 - 1])('errno %i, which is none, is EIO', async (errno) => {
  const image = await openFrom((socket, cookie) => socket.write(simpleReply(cookie, errno)));
  expect(await read(image)).toBe(-EIO);
});

test.each<[string, (cookie: Buffer) => Buffer]>([
  ['a reply to no request', () => simpleReply(uint(8, 77), 0)],
  [
    'a cookie that is ours in its lower half only',
    (cookie) => simpleReply(Buffer.concat([uint(4, 1), cookie.subarray(4)]), 0),
  ],
  ['a structured reply, which nobody asked for', (cookie) => simpleReply(cookie, 0, 0x668e33ef)],
  ['noise', () => Buffer.alloc(64, 0xff)],
])('%s ends the connection, and the request after a while', async (_name, reply) => {
  const image = await openFrom((socket, cookie) => socket.write(reply(cookie)));
  expect(await read(image)).toBe(-EIO);
});

test('an export that comes back with another size is not used', async () => {
  const image = await openFrom((socket) => socket.destroy(), [65536, 131072]);
  expect(await read(image)).toBe(-EIO);
  expect(image.size).toBe(65536);
});
