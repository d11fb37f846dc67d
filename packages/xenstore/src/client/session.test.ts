import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isXenstoreError } from '../errors.js';
import { FakeTransport, fakeConnection, stringsOf } from '../testing/fake-transport.js';
import { encodeMessage, encodeStrings, type XsMessage, XsOp } from '../wire/wire.js';

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
