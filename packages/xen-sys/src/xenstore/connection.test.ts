import { once } from 'node:events';
import { mkdtempSync, renameSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import type { XenstoreTransport } from '../xenstore-transport.js';
import { connectXenstore, xenstorePaths } from './connection.js';
import { ReplyCounter } from './device.js';

const folder = mkdtempSync(join(tmpdir(), 'xen-sys-xs-'));
const path = join(folder, 'socket');

afterAll(() => rmSync(folder, { recursive: true }));

describe('where xenstore is looked for', () => {
  test.each([
    [{}, ['/run/xenstored/socket', '/var/run/xenstored/socket', '/dev/xen/xenbus']],
    [{ XENSTORED_RUNDIR: '/a' }, ['/a/socket', '/dev/xen/xenbus']],
    [{ XENSTORED_PATH: '/b/s', XENSTORED_RUNDIR: '/a' }, ['/b/s']],
    [{ XENSTORED_PATH: '' }, ['/run/xenstored/socket', '/var/run/xenstored/socket', '/dev/xen/xenbus']],
  ])('%o', (env, paths) => expect(xenstorePaths('/dev/xen', env)).toEqual(paths));

  test('nowhere', async () => {
    await expect(connectXenstore(['/no/socket', '/no/xenbus'])).rejects.toMatchObject({
      code: 'ERR_NO_XENSTORE',
      message: expect.stringMatching(/\/no\/socket, \/no\/xenbus.*package/),
    });
  });

  test('a socket that nobody serves is not passed over', async () => {
    const server = createServer().listen(path);
    await once(server, 'listening');
    const stale = join(folder, 'stale');
    const left = createServer().listen(stale);
    await once(left, 'listening');
    // What a killed daemon leaves: the file stays, nobody accepts.
    renameSync(stale, `${stale}.kept`);
    left.close();
    await expect(connectXenstore([`${stale}.kept`, path])).rejects.toMatchObject({
      name: 'XenSysError',
      code: 'ECONNREFUSED',
      path: `${stale}.kept`,
    });
    server.close();
  });
});

describe('over a socket', () => {
  let server: Server;
  let transport: XenstoreTransport | undefined;

  afterEach(async () => {
    await transport?.close();
    server.close();
  });

  async function connected(): Promise<{ peer: Socket; transport: XenstoreTransport }> {
    rmSync(path, { force: true });
    server = createServer().listen(path);
    await once(server, 'listening');
    const connection = once(server, 'connection');
    transport = await connectXenstore([join(folder, 'not-there'), path]);
    const [peer] = await connection;
    return { peer, transport };
  }

  test('messages go and come', async () => {
    const { peer, transport } = await connected();
    expect([transport.description, transport.maxPayload]).toEqual([path, 4096]);
    peer.pipe(peer);
    const data = new Promise<Uint8Array>((resolve) => transport.start({ data: resolve, close() {} }));
    transport.send(Uint8Array.of(1, 2, 3));
    expect([...(await data)]).toEqual([1, 2, 3]);
  });

  test('what was sent before closing still goes', async () => {
    const { peer, transport } = await connected();
    const received: Buffer[] = [];
    peer.on('data', (chunk: Buffer) => received.push(chunk));
    let closed = 0;
    transport.start({ data() {}, close: () => closed++ });
    transport.send(new Uint8Array(4096));
    await transport.close();
    await transport.close();
    expect(closed).toBe(1);
    if (!peer.closed) await once(peer, 'close');
    expect(Buffer.concat(received)).toHaveLength(4096);
  });

  test('a daemon that goes away closes it, before the start too', async () => {
    const { peer, transport } = await connected();
    peer.destroy();
    await new Promise((resolve) => setImmediate(resolve));
    await new Promise<void>((resolve) => transport.start({ data() {}, close: () => resolve() }));
    transport.send(Uint8Array.of(1));
  });

  test('an aborted signal', async () => {
    const { transport } = await connected();
    await transport.close();
    const reason = new Error('enough');
    await expect(connectXenstore([path], AbortSignal.abort(reason))).rejects.toBe(reason);
    const controller = new AbortController();
    const connecting = connectXenstore([path], controller.signal);
    controller.abort(reason);
    await expect(connecting).rejects.toBe(reason);
  });
});

test('replies are counted however the stream is cut', () => {
  const messages = fc.array(
    fc.record({ type: fc.integer({ min: 0, max: 26 }), length: fc.integer({ min: 0, max: 40 }) }),
  );
  fc.assert(
    fc.property(messages, fc.array(fc.integer({ min: 1, max: 30 })), (list, cuts) => {
      const stream = Buffer.concat(
        list.map(({ type, length }) => {
          const message = Buffer.alloc(16 + length, 0xff);
          message.writeUInt32LE(type, 0);
          message.writeUInt32LE(length, 12);
          return message;
        }),
      );
      const counter = new ReplyCounter();
      let replies = 0;
      let at = 0;
      for (const cut of [...cuts, stream.length]) {
        replies += counter.push(stream.subarray(at, at + cut));
        at = Math.min(at + cut, stream.length);
      }
      expect(replies).toBe(list.filter(({ type }) => type !== 15).length);
    }),
  );
});
