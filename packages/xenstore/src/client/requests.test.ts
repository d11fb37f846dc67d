import { getEventListeners } from 'node:events';
import { describe, expect, it } from 'vitest';
import { FakeTransport, fakeConnection, stringsOf } from '../testing/fake-transport.js';
import { XsOp, xsOpName } from '../wire/wire.js';
import { XenstoreClient } from './client.js';

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
    ['control', (c) => c.control('quota', ['set', 'nodes', '9']), XsOp.control, ['quota', 'set', 'nodes', '9']],
    ['getFeatures of a domain', (c) => c.getFeatures(5), XsOp.getFeature, ['5']],
    ['setFeatures', (c) => c.setFeatures(5, 4), XsOp.setFeature, ['5', '4']],
    ['getQuota', (c) => c.getQuota('nodes', 5), XsOp.getQuota, ['5', 'nodes']],
    ['setQuota', (c) => c.setQuota('nodes', 9), XsOp.setQuota, ['nodes', '9']],
  ])('%s', async (_, call, type, strings) => {
    const { transport, client } = fakeConnection();
    void call(client).catch(() => {});
    const message = await transport.next();
    expect([xsOpName(message.type), stringsOf(message), message.transactionId]).toEqual([xsOpName(type), strings, 0]);
  });

  it('end each string with a NUL, a value without', async () => {
    const { transport, client } = fakeConnection();
    void client.write('/a', Uint8Array.of(0, 1));
    expect([...(await transport.next()).payload]).toEqual([0x2f, 0x61, 0, 0, 1]);
  });

  it('are matched to replies that come in another order', async () => {
    const { transport, client } = fakeConnection();
    const both = Promise.all([client.read('/a'), client.read('/b')]);
    const [first, second] = [await transport.next(), await transport.next()];
    transport.replyBytes(second, 'of b');
    transport.replyBytes(first, 'of a');
    expect(await both).toEqual(['of a', 'of b']);
  });

  it('may be ten thousand at once', async () => {
    const { transport, client } = fakeConnection();
    const reads = Promise.all(Array.from({ length: 10_000 }, (_, i) => client.read(`/${i}`)));
    await transport.next();
    const rest = transport.sent.splice(0);
    expect(new Set(rest.map((message) => message.requestId)).size).toBe(9_999);
    for (const message of rest) transport.replyBytes(message, stringsOf(message)[0]);
    transport.replyBytes({ ...rest[0], requestId: rest[0].requestId - 1 }, '/0');
    expect((await reads).every((value, i) => value === `/${i}`)).toBe(true);
  });

  it('without a payload are followed by one that oxenstored answers', async () => {
    const { transport, client } = fakeConnection();
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
    const { transport, client } = fakeConnection();
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
    const { transport, client } = fakeConnection();
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
    const { transport, client } = fakeConnection();
    const asked = call(client);
    transport.fail(await transport.next(), 'ENOENT');
    expect(await asked).toBe(answer);
  });

  it('that nobody knows have a code of their own, and are quoted', async () => {
    const { transport, client } = fakeConnection();
    const read = client.tryRead('/a');
    transport.fail(await transport.next(), 'ENEW');
    await expect(read).rejects.toEqual(
      coded('ERR_REFUSED', { message: 'xenstore read /a: ERR_REFUSED, the daemon says "ENEW"' }),
    );
  });
});

describe('an aborted call', () => {
  it('is one listener of its signal, however many calls have it', async () => {
    const { transport, client } = fakeConnection();
    const abort = new AbortController();
    const { signal } = abort;
    const calls = Array.from({ length: 20 }, () => client.read('/a', { signal }));
    const listeners = () => getEventListeners(signal, 'abort').length;
    expect(listeners()).toBe(1);
    for (let n = 0; n < 20; n++) transport.replyBytes(await transport.next(), 'a');
    await Promise.all(calls);
    expect(listeners()).toBe(0);
    const more = [client.read('/a', { signal }), client.read('/b', { signal })];
    abort.abort(new Error('enough'));
    for (const call of more) await expect(call).rejects.toThrow('enough');
  });

  it('rejects at once and leaves the connection in step', async () => {
    const { transport, client } = fakeConnection();
    const abort = new AbortController();
    const aborted = client.read('/a', { signal: abort.signal });
    const read = client.read('/b');
    abort.abort(new Error('enough'));
    await expect(aborted).rejects.toThrow('enough');
    transport.replyBytes(await transport.next(), 'a');
    transport.replyBytes(await transport.next(), 'b');
    expect(await read).toBe('b');
  });

  it('of watch is taken back', async () => {
    const { transport, client } = fakeConnection();
    const abort = new AbortController();
    const watch = client.watch('/a', { signal: abort.signal });
    const [path, token] = stringsOf(await transport.next());
    abort.abort(new Error('enough'));
    await expect(watch).rejects.toThrow('enough');
    const undo = await transport.next();
    expect([undo.type, stringsOf(undo)]).toEqual([XsOp.unwatch, [path, token]]);
  });

  it('of begin ends the transaction that it gets', async () => {
    const { transport, client } = fakeConnection();
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
