import { encodeMessage, XsOp } from '@xenpv/xenstore';
import { beforeEach, describe, expect, it } from 'vitest';
import { RawClient } from '../testing/raw-client.js';
import { begin, daemon, guest, ok, start, tool } from '../testing/scene.js';

beforeEach(() => start());

describe('watches', () => {
  it('fire once when registered, after the reply', async () => {
    const order: string[] = [];
    const transport = daemon.connect(0);
    transport.start({ data: (bytes) => order.push(bytes[0] === XsOp.watchEvent ? 'event' : 'reply'), close: () => {} });
    transport.send(encodeMessage(XsOp.watch, 1, 0, Buffer.from('/none\0t\0')));
    await tool.takeEvents();
    expect(order).toEqual(['reply', 'event']);
    transport.send(encodeMessage(XsOp.write, 2, 0, Buffer.from('/none\0x')));
    await tool.takeEvents();
    expect(order).toEqual(['reply', 'event', 'event', 'reply']);
  });

  it('report paths as they were registered', async () => {
    const domain = await guest(5);
    await ok(domain, XsOp.watch, 'a\0relative\0');
    await ok(domain, XsOp.watch, '/local/domain/5/a\0absolute\0');
    await domain.takeEvents();
    await ok(domain, XsOp.write, 'a/b\0x');
    expect(await domain.takeEvents()).toEqual(['a/b relative', '/local/domain/5/a/b absolute']);
  });

  it('are told of the removal of a directory, each with what it watched', async () => {
    await ok(tool, XsOp.write, '/a/b/c\0x');
    for (const path of ['/', '/a', '/a/b', '/a/b/c', '/a/b/d', '/b']) await ok(tool, XsOp.watch, `${path}\0t\0`);
    await tool.takeEvents();
    await ok(tool, XsOp.remove, '/a\0');
    expect(await tool.takeEvents()).toEqual(['/a/b/c t', '/a/b t', '/a t']);
  });

  it('are not told of what they may not read', async () => {
    const domain = await guest(5);
    await ok(domain, XsOp.watch, '/\0t\0');
    await domain.takeEvents();
    await ok(tool, XsOp.write, '/secret/x\0v');
    expect(await domain.takeEvents()).toEqual([]);
    await ok(tool, XsOp.setPermissions, '/secret/x\0n0\0r5\0');
    expect(await domain.takeEvents()).toEqual(['/secret/x t']);
    await ok(tool, XsOp.setPermissions, '/secret/x\0n0\0');
    expect(await domain.takeEvents()).toEqual(['/secret/x t']);
  });

  it('are known by path and token, whatever bytes those are', async () => {
    const token = 'any \xff bytes';
    await ok(tool, XsOp.watch, `/a\0${token}\0`);
    expect(await tool.ask(XsOp.watch, `/a\0${token}\0`)).toBe('!EEXIST');
    await ok(tool, XsOp.watch, '/a\0\0');
    expect(await tool.takeEvents()).toEqual([`/a ${token}`, '/a ']);
    expect(await tool.ask(XsOp.unwatch, '/a\0other\0')).toBe('!ENOENT');
    await ok(tool, XsOp.unwatch, `/a\0${token}\0`);
    await ok(tool, XsOp.write, '/a\0x');
    expect(await tool.takeEvents()).toEqual(['/a ']);
  });

  it('merge equal events that wait', async () => {
    const transport = daemon.connect(0);
    transport.send(encodeMessage(XsOp.watch, 1, 0, Buffer.from('/a\0t\0')));
    for (let i = 0; i < 50; i++) await ok(tool, XsOp.write, `/a/${i % 2}\0x`);
    const events: string[] = [];
    transport.start({
      data: (bytes) => bytes[0] === XsOp.watchEvent && events.push(`${bytes.slice(16)}`),
      close: () => {},
    });
    await tool.takeEvents();
    expect(events).toEqual(['/a', '/a/0', '/a/1'].map((path) => `${Buffer.from(`${path}\0t\0`)}`));
  });

  it('end with the connection', async () => {
    const other = RawClient.onTransport(daemon.connect(0));
    await ok(other, XsOp.watch, '/a\0t\0');
    const transaction = await begin(other);
    await ok(other, XsOp.write, '/a\0x', transaction);
    expect(daemon.watchCount).toBe(1);
    other.close();
    expect(daemon.watchCount).toBe(0);
    expect(await tool.ask(XsOp.read, '/a\0')).toBe('!ENOENT');
  });

  it.each(['\0', '/a', '/a\0', '//\0t\0', '/a\0t\x000\0', `@${'x'.repeat(2048)}\0t\0`])(
    'refuse %j',
    async (payload) => {
      expect(await tool.ask(XsOp.watch, payload)).toBe('!EINVAL');
    },
  );
});

describe('watches of the daemon of 4.22', () => {
  beforeEach(() => start({ version: '4.22' }));

  it('has watches with a depth', async () => {
    for (const depth of [0, 1, 2]) await ok(tool, XsOp.watch, `/a\0${depth}\0${depth}\0`);
    await ok(tool, XsOp.watch, '/a\0all\0');
    await tool.takeEvents();
    await ok(tool, XsOp.write, '/a/b/c\0x');
    expect(await tool.takeEvents()).toEqual(['/a/b/c 2', '/a/b/c all']);
    await ok(tool, XsOp.write, '/a/b\0x');
    expect(await tool.takeEvents()).toEqual(['/a/b 1', '/a/b 2', '/a/b all']);
    await ok(tool, XsOp.write, '/a\0x');
    expect(await tool.takeEvents()).toEqual(['/a 0', '/a 1', '/a 2', '/a all']);
    expect(await tool.ask(XsOp.watch, '/a\0t\0-1\0')).toBe('!EINVAL');
  });

  it('tells which domain a special event is about, at depth 1', async () => {
    await ok(tool, XsOp.watch, '@releaseDomain\0deep\x001\0');
    await ok(tool, XsOp.watch, '@releaseDomain\0plain\0');
    await tool.takeEvents();
    daemon.introduceDomain(5);
    daemon.releaseDomain(5);
    expect(await tool.takeEvents()).toEqual(['@releaseDomain/5 deep', '@releaseDomain plain']);
  });
});
