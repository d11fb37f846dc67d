import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FakeTransport, stringsOf } from '../testing/fake-transport.js';
import { encodeMessage, encodeStrings, type XsMessage, XsOp, xsOpName } from '../wire/wire.js';
import { XenstoreClient } from './client.js';

function setUp(options?: Parameters<typeof XenstoreClient.open>[1]) {
  const transport = new FakeTransport();
  return { transport, client: XenstoreClient.open(transport, options) };
}

/** Answers WATCH and UNWATCH; returns the token. */
async function confirmWatch(transport: FakeTransport): Promise<string> {
  const message = await transport.next();
  expect(message.type).toBe(XsOp.watch);
  transport.reply(message, 'OK');
  return stringsOf(message)[1];
}

const coded = (code: string, more: object = {}) => expect.objectContaining({ name: 'XenstoreError', code, ...more });

describe('requests', () => {
  it.each<[string, (client: XenstoreClient) => Promise<unknown>, number, string[]]>([
    ['read', (c) => c.read('/a'), XsOp.read, ['/a']],
    ['write', (c) => c.write('/a', 'v'), XsOp.write, ['/a', 'v']],
    ['write a number', (c) => c.write('/a', 12), XsOp.write, ['/a', '12']],
    ['write a bigint', (c) => c.write('/a', 2n ** 64n), XsOp.write, ['/a', '18446744073709551616']],
    ['write a boolean', (c) => c.write('/a', true), XsOp.write, ['/a', '1']],
    ['write nothing', (c) => c.write('/a', ''), XsOp.write, ['/a']],
    ['mkdir', (c) => c.mkdir('/a'), XsOp.mkdir, ['/a']],
    ['remove', (c) => c.remove('/a'), XsOp.remove, ['/a']],
    ['directory', (c) => c.directory('/a'), XsOp.directory, ['/a']],
    ['getPermissions', (c) => c.getPermissions('/a'), XsOp.getPermissions, ['/a']],
    [
      'setPermissions',
      (c) =>
        c.setPermissions('/a', [
          { domid: 0, access: 'n' },
          { domid: 5, access: 'b' },
        ]),
      XsOp.setPermissions,
      ['/a', 'n0', 'b5'],
    ],
    ['getDomainPath', (c) => c.getDomainPath(5), XsOp.getDomainPath, ['5']],
    ['introduceDomain', (c) => c.introduceDomain(5, 1n << 40n, 7), XsOp.introduce, ['5', '1099511627776', '7']],
    ['releaseDomain', (c) => c.releaseDomain(5), XsOp.release, ['5']],
    ['isDomainIntroduced', (c) => c.isDomainIntroduced(5), XsOp.isDomainIntroduced, ['5']],
    ['resumeDomain', (c) => c.resumeDomain(5), XsOp.resume, ['5']],
    ['setTarget', (c) => c.setTarget(5, 6), XsOp.setTarget, ['5', '6']],
    ['control', (c) => c.control('quota', 'set', 'nodes', '9'), XsOp.control, ['quota', 'set', 'nodes', '9']],
    ['getFeatures of a domain', (c) => c.getFeatures(5), XsOp.getFeature, ['5']],
    ['setFeatures', (c) => c.setFeatures(5, 4), XsOp.setFeature, ['5', '4']],
    ['getQuota', (c) => c.getQuota('nodes', 5), XsOp.getQuota, ['5', 'nodes']],
    ['setQuota', (c) => c.setQuota('nodes', 9), XsOp.setQuota, ['nodes', '9']],
  ])('%s', async (_, call, type, strings) => {
    const { transport, client } = setUp();
    void call(client).catch(() => {});
    const message = await transport.next();
    expect([xsOpName(message.type), stringsOf(message), message.transactionId]).toEqual([xsOpName(type), strings, 0]);
  });

  it('end each string with a NUL, a value without', async () => {
    const { transport, client } = setUp();
    void client.write('/a', Uint8Array.of(0, 1));
    expect([...(await transport.next()).payload]).toEqual([0x2f, 0x61, 0, 0, 1]);
  });

  it('are matched to replies that come in another order', async () => {
    const { transport, client } = setUp();
    const both = Promise.all([client.read('/a'), client.read('/b')]);
    const [first, second] = [await transport.next(), await transport.next()];
    transport.receive(encodeMessage(XsOp.read, second.requestId, 0, Buffer.from('of b')));
    transport.receive(encodeMessage(XsOp.read, first.requestId, 0, Buffer.from('of a')));
    expect(await both).toEqual(['of a', 'of b']);
  });

  it('may be ten thousand at once', async () => {
    const { transport, client } = setUp();
    const reads = Promise.all(Array.from({ length: 10_000 }, (_, i) => client.read(`/${i}`)));
    await transport.next();
    const rest = transport.sent.splice(0);
    expect(new Set(rest.map((message) => message.requestId)).size).toBe(9_999);
    for (const message of rest) transport.receive(replyWith(message, stringsOf(message)[0]));
    transport.receive(replyWith({ ...rest[0], requestId: rest[0].requestId - 1 }, '/0'));
    expect((await reads).every((value, i) => value === `/${i}`)).toBe(true);
  });

  it('without a payload are followed by one that oxenstored answers', async () => {
    const { transport, client } = setUp();
    const features = client.getFeatures();
    const [asked, pushed] = [await transport.next(), await transport.next()];
    expect([asked.type, asked.payload.length, pushed.type]).toEqual([XsOp.getFeature, 0, XsOp.getDomainPath]);
    transport.fail(asked, 'ENOSYS');
    expect(await features).toBe(0);
  });
});

describe('refused before anything is sent', () => {
  it.each<[string, (client: XenstoreClient) => Promise<unknown>, object]>([
    ['a wrong path', (c) => c.read('/a//b'), coded('ERR_INVALID_PATH', { op: 'read', path: '"/a//b"' })],
    ['a wrong path to write', (c) => c.write('/ä', 'x'), coded('ERR_INVALID_PATH')],
    ['a wrong path to watch', (c) => c.watch('/a/'), coded('ERR_INVALID_PATH')],
    ['too long a value', (c) => c.write('/a', 'x'.repeat(4094)), coded('ERR_TOO_LARGE', { op: 'write', path: '/a' })],
    ['no number', (c) => c.write('/a', Number.NaN), coded('ERR_INVALID_ARGUMENT')],
    ['no permissions', (c) => c.setPermissions('/a', []), coded('ERR_INVALID_ARGUMENT')],
    ['an aborted signal', (c) => c.read('/a', { signal: AbortSignal.abort('why') }), expect.stringMatching('why')],
  ])('%s', async (_, call, error) => {
    const { transport, client } = setUp();
    await expect(call(client)).rejects.toEqual(error);
    expect(transport.sent).toEqual([]);
  });

  it('what the transport cannot take, which may be less than 4096 bytes', async () => {
    const client = XenstoreClient.open(new FakeTransport(4080));
    await expect(client.write('/a', 'x'.repeat(4078))).rejects.toThrow(
      '4081 bytes of payload, fake takes at most 4080',
    );
  });
});

describe('errors of the daemon', () => {
  it('name operation, path and reason', async () => {
    const { transport, client } = setUp();
    const read = client.read('/a');
    transport.fail(await transport.next(), 'EACCES');
    await expect(read).rejects.toEqual(coded('EACCES', { op: 'read', path: '/a' }));
    await expect(read).rejects.toThrow('xenstore read /a: EACCES, permission denied');
  });

  it.each<[string, (client: XenstoreClient) => Promise<unknown>, unknown]>([
    ['tryRead', (c) => c.tryRead('/a'), undefined],
    ['exists', (c) => c.exists('/a'), false],
    ['tryDirectory', (c) => c.tryDirectory('/a'), undefined],
    ['remove', (c) => c.remove('/a'), undefined],
  ])('ENOENT is an answer to %s', async (_, call, answer) => {
    const { transport, client } = setUp();
    const asked = call(client);
    transport.fail(await transport.next(), 'ENOENT');
    expect(await asked).toBe(answer);
  });

  it('that nobody knows are handed on', async () => {
    const { transport, client } = setUp();
    const read = client.tryRead('/a');
    transport.fail(await transport.next(), 'EQUOTA');
    await expect(read).rejects.toEqual(coded('EQUOTA'));
  });
});

describe('what the protocol does not allow', () => {
  it.each<[string, (message: XsMessage) => Uint8Array]>([
    ['a reply to nothing', ({ requestId }) => encodeMessage(XsOp.read, requestId + 1, 0, new Uint8Array())],
    ['an event without a token', () => encodeMessage(XsOp.watchEvent, 0, 0, encodeStrings('/a'))],
    ['an endless reply', () => encodeMessage(XsOp.read, 1, 0, new Uint8Array(17 * 1024 * 1024)).subarray(0, 16)],
  ])('%s ends the connection', async (_, bytes) => {
    const { transport, client } = setUp();
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
        const { transport, client } = setUp();
        const calls = [client.read('/a'), client.getPermissions('/a'), client.getFeatures(3)];
        const settled = Promise.allSettled(calls);
        for (const bytes of chunks) transport.receive(bytes);
        transport.break();
        expect(await settled).toHaveLength(3);
      }),
    );
  });

  it('a reply of another kind fails its call only', async () => {
    const { transport, client } = setUp();
    const read = client.read('/a');
    transport.reply({ ...(await transport.next()), type: XsOp.write });
    await expect(read).rejects.toEqual(coded('ERR_PROTOCOL'));
    expect(transport.closedByClient).toBe(false);
  });

  it('permissions that are none', async () => {
    const { transport, client } = setUp();
    const asked = client.getPermissions('/a');
    transport.reply(await transport.next(), 'n0', 'zz');
    await expect(asked).rejects.toEqual(coded('ERR_PROTOCOL', { path: '/a' }));
  });
});

describe('an aborted call', () => {
  it('rejects at once and leaves the connection in step', async () => {
    const { transport, client } = setUp();
    const abort = new AbortController();
    const aborted = client.read('/a', { signal: abort.signal });
    const read = client.read('/b');
    abort.abort(new Error('enough'));
    await expect(aborted).rejects.toThrow('enough');
    transport.receive(replyWith(await transport.next(), 'a'));
    transport.receive(replyWith(await transport.next(), 'b'));
    expect(await read).toBe('b');
  });

  it('of watch is taken back', async () => {
    const { transport, client } = setUp();
    const abort = new AbortController();
    const watch = client.watch('/a', { signal: abort.signal });
    const [path, token] = stringsOf(await transport.next());
    abort.abort(new Error('enough'));
    await expect(watch).rejects.toThrow('enough');
    const undo = await transport.next();
    expect([undo.type, stringsOf(undo)]).toEqual([XsOp.unwatch, [path, token]]);
  });

  it('of begin ends the transaction that it gets', async () => {
    const { transport, client } = setUp();
    const abort = new AbortController();
    const transaction = client.begin({ signal: abort.signal });
    const start = await transport.next();
    abort.abort(new Error('enough'));
    transport.reply(start, '9');
    const end = await transport.next();
    expect([end.type, end.transactionId, stringsOf(end)]).toEqual([XsOp.transactionEnd, 9, ['F']]);
    transport.reply(end, 'OK');
    await expect(transaction).rejects.toThrow('enough');
  });
});

describe('watches', () => {
  it('get the first event though it comes before the reply', async () => {
    const { transport, client } = setUp();
    const watching = client.watch('/a');
    const message = await transport.next();
    transport.event('/a', stringsOf(message)[1]);
    transport.reply(message, 'OK');
    expect(await (await watching).next()).toEqual({ done: false, value: { path: '/a' } });
  });

  it('join events of the same path that nobody took', async () => {
    const { transport, client } = setUp();
    const watching = client.watch('/a');
    const token = await confirmWatch(transport);
    const watch = await watching;
    for (const path of ['/a/x', '/a/y', '/a/x', '/a/x']) transport.event(path, token);
    const seen = [await watch.next(), await watch.next()].map(({ value }) => value?.path);
    expect(seen).toEqual(['/a/x', '/a/y']);
    transport.event('/a/x', token);
    expect((await watch.next()).value?.path).toBe('/a/x');
  });

  it('become one event of the watched path when too many differ', async () => {
    const { transport, client } = setUp();
    const watching = client.watch('/a');
    const token = await confirmWatch(transport);
    const watch = await watching;
    for (let i = 0; i < 10_000; i++) transport.event(`/a/${i}`, token);
    expect((await watch.next()).value?.path).toBe('/a');
    transport.event('/a/last', token);
    expect((await watch.next()).value?.path).toBe('/a/last');
  });

  it('end with UNWATCH path, token; ENOENT is fine', async () => {
    const { transport, client } = setUp();
    const watching = client.watch('/a');
    const token = await confirmWatch(transport);
    const watch = await watching;
    const waiting = watch.next();
    const closing = watch.close();
    const message = await transport.next();
    expect([message.type, stringsOf(message)]).toEqual([XsOp.unwatch, ['/a', token]]);
    transport.event('/a', token);
    transport.fail(message, 'ENOENT');
    await closing;
    await watch.close();
    expect([await waiting, await watch.next()]).toEqual(Array(2).fill({ done: true, value: undefined }));
    expect(transport.sent).toEqual([]);
  });

  it('end when a loop over them is left', async () => {
    const { transport, client } = setUp();
    const watching = client.watch('/a');
    transport.event('/a', await confirmWatch(transport));
    const loop = (async () => {
      for await (const event of await watching) return event.path;
    })();
    transport.reply(await transport.next(), 'OK');
    expect(await loop).toBe('/a');
  });

  it('throw the reason of their signal', async () => {
    const { transport, client } = setUp();
    const abort = new AbortController();
    const watching = client.watch('/a', { signal: abort.signal });
    await confirmWatch(transport);
    const waiting = (await watching).next();
    abort.abort(new Error('enough'));
    await expect(waiting).rejects.toThrow('enough');
    expect((await transport.next()).type).toBe(XsOp.unwatch);
  });

  it('throw when the connection breaks, after what had come', async () => {
    const { transport, client } = setUp();
    const watching = client.watch('/a');
    transport.event('/a', await confirmWatch(transport));
    const watch = await watching;
    transport.break(new Error('gone'));
    expect((await watch.next()).value?.path).toBe('/a');
    await expect(watch.next()).rejects.toThrow('fake: gone');
    expect((await watch.next()).done).toBe(true);
  });

  it('of a depth tell the daemon only when it knows depths, and see no deeper', async () => {
    for (const [features, args] of [
      ['ENOSYS', []],
      ['4', ['1']],
    ] as const) {
      const { transport, client } = setUp();
      const watching = client.watch('/a', { depth: 1 });
      const asked = await transport.next();
      if (features === 'ENOSYS') transport.fail(asked, features);
      else transport.reply(asked, features);
      transport.reply(await transport.next(), '/local/domain/0');
      const message = await transport.next();
      const token = stringsOf(message)[1];
      expect(stringsOf(message)).toEqual(['/a', token, ...args]);
      transport.reply(message, 'OK');
      for (const path of ['/a', '/a/b/c', '/a/b']) transport.event(path, token);
      const watch = await watching;
      expect([(await watch.next()).value?.path, (await watch.next()).value?.path]).toEqual(['/a', '/a/b']);
    }
  });
});

describe('a broken connection', () => {
  it('rejects all that is pending, and all that follows', async () => {
    const { transport, client } = setUp();
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
    const { transport, client } = setUp({ reconnect: () => opened });
    const watching = client.watch('/a');
    const token = await confirmWatch(transport);
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
    second.receive(replyWith(await second.next(), 'yes'));
    expect([await later, (await watch.next()).value?.path]).toEqual(['yes', '/a']);
  });

  it('that cannot be made again yet is tried again', async () => {
    const second = new FakeTransport();
    let attempts = 0;
    const reconnect = async () => {
      if (++attempts < 3) throw new Error('not yet');
      return second;
    };
    const { transport, client } = setUp({ reconnect });
    transport.break();
    const read = client.read('/a');
    second.receive(replyWith(await second.next(), 'yes'));
    expect([await read, attempts]).toEqual(['yes', 3]);
  });

  it('fails a watch that the new daemon refuses, that one only', async () => {
    const second = new FakeTransport();
    const { transport, client } = setUp({ reconnect: async () => second });
    const both = [client.watch('/a'), client.watch('/b')];
    await confirmWatch(transport);
    await confirmWatch(transport);
    const [a, b] = await Promise.all(both);
    transport.break();
    second.fail(await second.next(), 'EINVAL');
    const token = await confirmWatch(second);
    second.event('/b', token);
    await expect(a.next()).rejects.toEqual(coded('EINVAL'));
    expect((await b.next()).value?.path).toBe('/b');
  });

  it('ends a transaction', async () => {
    const { transport, client } = setUp({ reconnect: () => new Promise(() => {}) });
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
    const { transport, client } = setUp();
    const watching = client.watch('/a');
    await confirmWatch(transport);
    const loop = (await watching).next();
    const read = client.read('/a');
    const closing = client.close();
    expect(transport.closedByClient).toBe(false);
    await expect(client.read('/b')).rejects.toEqual(coded('ERR_CLOSED'));
    transport.receive(replyWith(await transport.next(), 'yes'));
    expect([await read, await loop]).toEqual(['yes', { done: true, value: undefined }]);
    await Promise.all([closing, client.close()]);
    expect([transport.closedByClient, await client.closed]).toEqual([true, undefined]);
  });

  it('ends an attempt to connect again', async () => {
    const { transport, client } = setUp({
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
    const { transport, client } = setUp();
    const waiting = client.waitFor((store) => store.tryRead('/a'));
    await confirmWatch(transport);
    transport.fail(await transport.next(), 'ENOENT');
    await client.close();
    await expect(waiting).rejects.toEqual(coded('ERR_CLOSED'));
  });
});

function replyWith(to: XsMessage, value: string): Uint8Array {
  return encodeMessage(to.type, to.requestId, to.transactionId, Buffer.from(value));
}
