import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createConnection, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { encodeContext } from './protocol/contexts.js';
import { NbdHandshake, NbdInfo, NbdOption, NbdOptionReply } from './protocol/numbers.js';
import { encodeExportInfo, encodeGreeting, encodeOptionReply } from './protocol/options.js';
import { encodeErrorChunk, encodeStatusChunk, NBD_REQUEST_BYTES } from './protocol/requests.js';
import { NbdStatusClient } from './status-client.js';

const NAME = 'base:allocation';
const EXTENTS = [{ length: 512, flags: 3 }];

let folder: string;
let server: Server;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'nbd-status-'));
});
afterEach(() => {
  server.close();
  rmSync(folder, { recursive: true });
});

/** A server that says what it likes: `contexts` in the negotiation, and what `answer` makes of a request's cookie. */
async function serverThat(
  answer: (cookie: Buffer) => Buffer | undefined,
  contexts: readonly Buffer[] = [encodeContext(7, NAME)],
): Promise<string> {
  const reply = (option: number, type: number, data?: Uint8Array) => encodeOptionReply(option, type, data);
  server = createServer((socket) => {
    socket.on('error', () => {});
    socket.write(encodeGreeting(NbdHandshake.fixedNewstyle | NbdHandshake.noZeroes));
    socket.write(reply(NbdOption.structuredReply, NbdOptionReply.ack));
    for (const context of contexts) {
      socket.write(reply(NbdOption.setMetaContext, NbdOptionReply.metaContext, context));
    }
    socket.write(reply(NbdOption.setMetaContext, NbdOptionReply.ack));
    socket.write(reply(NbdOption.go, NbdOptionReply.info, encodeExportInfo(65536, NbdInfo.export)));
    socket.write(reply(NbdOption.go, NbdOptionReply.ack));
    socket.on('data', (bytes) => {
      const at = bytes.length - NBD_REQUEST_BYTES;
      if (at < 0 || bytes.readUInt32BE(at) !== 0x25609513) return;
      const said = answer(Buffer.from(bytes.subarray(at + 8, at + 16)));
      if (said) socket.write(said);
    });
  });
  const path = join(folder, 'socket');
  await once(server.listen(path), 'listening');
  return path;
}

const open = (path: string, answerMs = 10_000) =>
  NbdStatusClient.open(createConnection(path), { exportName: 'disk', contexts: [NAME], answerMs });

const status = (cookie: Buffer, context = 7, extents = EXTENTS) =>
  encodeStatusChunk(cookie, context, { extents, isLast: true });

test('a server that cannot tell now is asked again, one question after the other', async () => {
  let refuses = true;
  const client = await open(
    await serverThat((cookie) => {
      refuses = !refuses;
      return refuses ? status(cookie) : encodeErrorChunk(cookie, 5, 'not now');
    }),
  );
  const [first, second] = [client.status(0, 512), client.status(512, 512)];
  await expect(first).rejects.toMatchObject({ code: 'ERR_REFUSED' });
  expect([...(await second)]).toEqual([[NAME, EXTENTS]]);
  client.close();
  await client.closed;
});

test.each<[what: string, answer: (cookie: Buffer) => Buffer | undefined]>([
  ['answers what was not asked', (cookie) => status(Buffer.from(cookie).reverse())],
  ['tells of a context that was not chosen', (cookie) => status(cookie, 8)],
  ['tells twice of one', (cookie) => Buffer.concat([unfinished(cookie), status(cookie)])],
  ['tells of nothing', (cookie) => status(cookie, 7, [])],
  ['tells of an empty range', (cookie) => status(cookie, 7, [{ length: 0, flags: 0 }])],
  ['says more than it can have to say', (cookie) => ofLength(status(cookie), 2 ** 31)],
  ['sends data', (cookie) => ofType(status(cookie), 1)],
  ['says nothing in time', () => undefined],
])('a server that %s is hung up on', async (what, answer) => {
  const opened = open(await serverThat(answer), what === 'says nothing in time' ? 300 : undefined);
  await expect(opened.then((client) => client.status(0, 512))).rejects.toMatchObject({ name: 'NbdError' });
  const clients = () => new Promise((resolve) => server.getConnections((_, count) => resolve(count)));
  await expect.poll(clients, { timeout: 30_000 }).toBe(0);
});

test.each<[what: string, contexts: readonly Buffer[], code: string]>([
  ['has not all that is asked for', [], 'ERR_REFUSED'],
  ['names others', [encodeContext(1, 'x:y')], 'ERR_PROTOCOL'],
  ['numbers two alike', [encodeContext(1, NAME), encodeContext(1, NAME)], 'ERR_PROTOCOL'],
  ['names none', [Buffer.alloc(2)], 'ERR_PROTOCOL'],
])('a server whose contexts are wrong is not asked: it %s', async (_what, contexts, code) => {
  await expect(open(await serverThat(() => undefined, contexts))).rejects.toMatchObject({ code });
});

function unfinished(cookie: Buffer): Buffer {
  return encodeStatusChunk(cookie, 7, { extents: EXTENTS, isLast: false });
}

function ofType(chunk: Buffer, type: number): Buffer {
  chunk.writeUInt16BE(type, 6);
  return chunk;
}

function ofLength(chunk: Buffer, length: number): Buffer {
  chunk.writeUInt32BE(length, 16);
  return chunk;
}
