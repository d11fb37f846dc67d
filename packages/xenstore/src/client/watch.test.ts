import { describe, expect, it } from 'vitest';
import { fakeConnection, stringsOf } from '../testing/fake-transport.js';
import { XsOp } from '../wire/wire.js';

describe('watches', () => {
  it('get the first event though it comes before the reply', async () => {
    const { transport, client } = fakeConnection();
    const watching = client.watch('/a');
    const message = await transport.next();
    transport.event('/a', stringsOf(message)[1]);
    transport.reply(message, 'OK');
    expect(await (await watching).next()).toEqual({ done: false, value: { path: '/a' } });
  });

  it('join events of the same path that nobody took', async () => {
    const { transport, client } = fakeConnection();
    const watching = client.watch('/a');
    const token = await transport.confirmWatch();
    const watch = await watching;
    for (const path of ['/a/x', '/a/y', '/a/x', '/a/x']) transport.event(path, token);
    const seen = [await watch.next(), await watch.next()].map(({ value }) => value?.path);
    expect(seen).toEqual(['/a/x', '/a/y']);
    transport.event('/a/x', token);
    expect((await watch.next()).value?.path).toBe('/a/x');
  });

  it('XSA-349: become one event of the watched path when too many differ', async () => {
    const { transport, client } = fakeConnection();
    const watching = client.watch('/a');
    const token = await transport.confirmWatch();
    const watch = await watching;
    for (let i = 0; i < 10_000; i++) transport.event(`/a/${i}`, token);
    expect((await watch.next()).value?.path).toBe('/a');
    transport.event('/a/last', token);
    expect((await watch.next()).value?.path).toBe('/a/last');
  });

  it('end with UNWATCH path, token; ENOENT is fine', async () => {
    const { transport, client } = fakeConnection();
    const watching = client.watch('/a');
    const token = await transport.confirmWatch();
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
    const { transport, client } = fakeConnection();
    const watching = client.watch('/a');
    transport.event('/a', await transport.confirmWatch());
    const loop = (async () => {
      for await (const event of await watching) return event.path;
    })();
    transport.reply(await transport.next(), 'OK');
    expect(await loop).toBe('/a');
  });

  it('throw the reason of their signal', async () => {
    const { transport, client } = fakeConnection();
    const abort = new AbortController();
    const watching = client.watch('/a', { signal: abort.signal });
    await transport.confirmWatch();
    const waiting = (await watching).next();
    abort.abort(new Error('enough'));
    await expect(waiting).rejects.toThrow('enough');
    expect((await transport.next()).type).toBe(XsOp.unwatch);
  });

  it('throw when the connection breaks, after what had come', async () => {
    const { transport, client } = fakeConnection();
    const watching = client.watch('/a');
    transport.event('/a', await transport.confirmWatch());
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
      const { transport, client } = fakeConnection();
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
