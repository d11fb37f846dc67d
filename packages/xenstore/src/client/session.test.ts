import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isXenstoreError } from '../errors.js';
import { FakeTransport, fakeConnection, stringsOf } from '../testing/fake-transport.js';
import { readTree } from '../tree/tree.js';
import { encodeMessage, encodeStrings, type XsMessage, XsOp, xsOpName } from '../wire/wire.js';
import type { XenstoreClient } from './client.js';
import type { XenstoreOperations } from './operations.js';

const coded = (code: string, more: object = {}) => expect.objectContaining({ name: 'XenstoreError', code, ...more });

describe('what the protocol does not allow', () => {
  it.each<[string, (message: XsMessage) => Uint8Array]>([
    ['a reply to nothing', ({ requestId }) => encodeMessage(XsOp.read, requestId + 1, 0, new Uint8Array())],
    ['an event without a token', () => encodeMessage(XsOp.watchEvent, 0, 0, encodeStrings('/a'))],
    ['an endless reply', () => encodeMessage(XsOp.read, 1, 0, new Uint8Array(17 * 1024 * 1024)).subarray(0, 16)],
  ])('%s ends the connection', async (_, bytes) => {
    const { transport, client } = fakeConnection();
    const read = client.read('/a');
    transport.receive(bytes(await transport.next()));
    await expect(read).rejects.toEqual(coded('ERR_CLOSED'));
    expect(await client.closed).toEqual(coded('ERR_PROTOCOL'));
    expect(transport.closedByClient).toBe(true);
  });

  it('whatever comes, nothing is thrown at the transport, and every call settles', async () => {
    const chunk = fc.uint8Array({ maxLength: 40 });
    const message = fc
      .tuple(fc.integer({ min: 0, max: 30 }), fc.integer({ min: 0, max: 3 }), fc.uint8Array({ maxLength: 20 }))
      .map(([type, id, payload]) => encodeMessage(type, id, 0, payload));
    await fc.assert(
      fc.asyncProperty(fc.array(fc.oneof({ weight: 5, arbitrary: message }, chunk)), async (chunks) => {
        const { transport, client } = fakeConnection();
        const calls = [client.read('/a'), client.getPermissions('/a'), client.getFeatures(3)];
        const settled = Promise.allSettled(calls);
        for (const bytes of chunks) transport.receive(bytes);
        transport.break();
        const reasons = (await settled).flatMap((one) => (one.status === 'rejected' ? [one.reason] : []));
        expect(reasons.filter((reason) => !isXenstoreError(reason))).toEqual([]);
      }),
    );
  });

  it('a reply of another kind fails its call only', async () => {
    const { transport, client } = fakeConnection();
    const read = client.read('/a');
    transport.reply({ ...(await transport.next()), type: XsOp.write });
    await expect(read).rejects.toEqual(coded('ERR_PROTOCOL'));
    expect(transport.closedByClient).toBe(false);
  });

  it('permissions that are none', async () => {
    const { transport, client } = fakeConnection();
    const asked = client.getPermissions('/a');
    transport.reply(await transport.next(), 'n0', 'zz');
    await expect(asked).rejects.toEqual(coded('ERR_PROTOCOL', { path: '/a' }));
  });
});

describe('a broken connection', () => {
  it('rejects all that is pending, and all that follows', async () => {
    const { transport, client } = fakeConnection();
    const pending = [client.read('/a'), client.transaction(async () => 1), client.watch('/a')];
    const settled = Promise.allSettled(pending);
    transport.break(new Error('gone'));
    expect((await settled).map((one) => (one as PromiseRejectedResult).reason.code)).toEqual(
      Array(3).fill('ERR_CLOSED'),
    );
    await expect(client.read('/a')).rejects.toThrow('the connection ended: xenstore receive: ERR_CLOSED, fake: gone');
    expect(await client.closed).toEqual(coded('ERR_CLOSED'));
  });

  it('is made again: watches are registered again, calls wait', async () => {
    const second = new FakeTransport();
    let open: (transport: FakeTransport) => void = () => {};
    const opened = new Promise<FakeTransport>((resolve) => {
      open = resolve;
    });
    const { transport, client } = fakeConnection({ reconnect: () => opened });
    const watching = client.watch('/a');
    const token = await transport.confirmWatch();
    const watch = await watching;
    const pending = client.read('/pending');
    transport.break();
    await expect(pending).rejects.toEqual(coded('ERR_CLOSED'));
    const later = client.read('/later');
    open(second);
    const again = await second.next();
    expect([again.type, stringsOf(again)]).toEqual([XsOp.watch, ['/a', token]]);
    second.reply(again, 'OK');
    second.event('/a', token);
    second.replyBytes(await second.next(), 'yes');
    expect([await later, (await watch.next()).value?.path]).toEqual(['yes', '/a']);
  });

  it('that cannot be made again yet is tried again', async () => {
    const second = new FakeTransport();
    let attempts = 0;
    const reconnect = async () => {
      if (++attempts < 3) throw new Error('not yet');
      return second;
    };
    const { transport, client } = fakeConnection({ reconnect });
    transport.break();
    const read = client.read('/a');
    second.replyBytes(await second.next(), 'yes');
    expect([await read, attempts]).toEqual(['yes', 3]);
  });

  it('fails a watch that the new daemon refuses, that one only', async () => {
    const second = new FakeTransport();
    const { transport, client } = fakeConnection({ reconnect: async () => second });
    const both = [client.watch('/a'), client.watch('/b')];
    await transport.confirmWatch();
    await transport.confirmWatch();
    const [a, b] = await Promise.all(both);
    transport.break();
    second.fail(await second.next(), 'EINVAL');
    const token = await second.confirmWatch();
    second.event('/b', token);
    await expect(a.next()).rejects.toEqual(coded('EINVAL'));
    expect((await b.next()).value?.path).toBe('/b');
  });

  it('ends a transaction', async () => {
    const { transport, client } = fakeConnection({ reconnect: () => new Promise(() => {}) });
    const beginning = client.begin();
    transport.reply(await transport.next(), '3');
    const transaction = await beginning;
    transport.break();
    await expect(transaction.read('/a')).rejects.toEqual(coded('ERR_CLOSED'));
    await transaction.abort();
    await client.close();
  });
});

describe('close', () => {
  it('waits for what is pending, ends watches, and is harmless when repeated', async () => {
    const { transport, client } = fakeConnection();
    const watching = client.watch('/a');
    await transport.confirmWatch();
    const loop = (await watching).next();
    const read = client.read('/a');
    const closing = client.close();
    expect(transport.closedByClient).toBe(false);
    await expect(client.read('/b')).rejects.toEqual(coded('ERR_CLOSED'));
    transport.replyBytes(await transport.next(), 'yes');
    expect([await read, await loop]).toEqual(['yes', { done: true, value: undefined }]);
    await Promise.all([closing, client.close()]);
    expect([transport.closedByClient, await client.closed]).toEqual([true, undefined]);
  });

  it.each<[string, (client: XenstoreClient) => Promise<void>]>([
    ['its time is over', (client) => client.close({ timeoutMs: 1 })],
    ['its signal was aborted before', (client) => client.close({ signal: AbortSignal.abort() })],
    [
      'the signal of a second close aborts',
      (client) => {
        const closing = client.close();
        const hurry = new AbortController();
        const again = client.close({ signal: hurry.signal });
        hurry.abort();
        return Promise.all([closing, again]).then(() => undefined);
      },
    ],
  ])('waits no longer for a silent daemon when %s', async (_, close) => {
    const { transport, client } = fakeConnection();
    const read = client.read('/a');
    read.catch(() => {});
    await close(client);
    await expect(read).rejects.toEqual(coded('ERR_CLOSED', { path: '/a' }));
    expect([transport.closedByClient, await client.closed]).toEqual([true, undefined]);
    transport.replyBytes(await transport.next(), 'late');
    await client.close();
  });

  it('leaves no connection behind whose daemon is silent about the watches', async () => {
    const again = new FakeTransport();
    const { transport, client } = fakeConnection({ reconnect: async () => again });
    const watching = client.watch('/a');
    await transport.confirmWatch();
    await watching;
    transport.break();
    await again.next();
    await client.close();
    await expect.poll(() => again.closedByClient).toBe(true);
  });

  it('ends an attempt to connect again', async () => {
    const { transport, client } = fakeConnection({
      reconnect: ({ signal }) =>
        new Promise((_, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason));
        }),
    });
    transport.break();
    const read = client.read('/a');
    await client.close();
    await expect(read).rejects.toEqual(coded('ERR_CLOSED'));
  });

  it('rejects waitFor', async () => {
    const { transport, client } = fakeConnection();
    const waiting = client.waitFor((store) => store.tryRead('/a'));
    await transport.confirmWatch();
    transport.fail(await transport.next(), 'ENOENT');
    await client.close();
    await expect(waiting).rejects.toEqual(coded('ERR_CLOSED'));
  });
});

describe('with a silent daemon, an aborted signal ends', () => {
  const forever = new Promise<never>(() => {});

  it.each<[string, (client: XenstoreClient, signal: AbortSignal) => Promise<unknown>]>([
    ['an operation', (client, signal) => client.read('/a', { signal })],
    ['a control command', (client, signal) => client.control('check', [], { signal })],
    ['a reset of the watches', (client, signal) => client.resetWatches({ signal })],
    ['a watch', (client, signal) => client.watch('/a', { signal })],
    ['a watch with a depth', (client, signal) => client.watch('/a', { signal, depth: 1 })],
    ['the beginning of a transaction', (client, signal) => client.begin({ signal })],
    ['a transaction', (client, signal) => client.transaction(() => forever, { signal })],
    ['waitFor', (client, signal) => client.waitFor((look) => look.tryRead('/a'), { signal })],
    ['a walk', (client, signal) => client.walk('/a', { signal }).next()],
    ['a directory as an object', (client, signal) => readTree(client, '/a', { x: { type: 'uint' } }, { signal })],
  ])('%s', async (_, call) => {
    const { client } = fakeConnection();
    const abort = new AbortController();
    const called = call(client, abort.signal);
    abort.abort(new Error('enough'));
    await expect(called).rejects.toThrow('enough');
    await client.close({ timeoutMs: 0 });
  });

  it('what is done in a transaction, and its commit', async () => {
    const { transport, client } = fakeConnection();
    for (const act of [(tx: XenstoreOperations) => tx.read('/a'), async () => {}]) {
      const abort = new AbortController();
      const done = client.transaction<unknown>(act, { signal: abort.signal });
      const start = await transport.next();
      transport.reply(start, '1');
      await expect.poll(() => transport.sent.length).toBeGreaterThan(0);
      abort.abort(new Error('enough'));
      await expect(done).rejects.toThrow('enough');
      while (transport.sent.length > 0) await transport.next();
    }
    await client.close({ timeoutMs: 0 });
  });

  it('the end of a watch', async () => {
    const { transport, client } = fakeConnection();
    const watching = client.watch('/a');
    await transport.confirmWatch();
    const watch = await watching;
    await expect(watch.close({ signal: AbortSignal.abort(new Error('enough')) })).rejects.toThrow('enough');
    expect(await watch.next()).toEqual({ done: true, value: undefined });
    await client.close({ timeoutMs: 0 });
  });

  it('a transaction that begins late is aborted at the daemon too', async () => {
    const { transport, client } = fakeConnection();
    const abort = new AbortController();
    const begun = client.begin({ signal: abort.signal });
    const start = await transport.next();
    abort.abort(new Error('enough'));
    await expect(begun).rejects.toThrow('enough');
    transport.reply(start, '9');
    const end = await transport.next();
    expect([xsOpName(end.type), end.transactionId, stringsOf(end)]).toEqual(['transactionEnd', 9, ['F']]);
    await client.close({ timeoutMs: 0 });
  });
});
