import { setImmediate as nextTurn } from 'node:timers/promises';
import { encodeMessage, XsOp } from '@xenpv/xenstore';
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { RawClient } from './testing/raw-client.js';
import { EmulatedXenstored, type EmulatedXenstoredOptions } from './xenstored.js';

let daemon: EmulatedXenstored;
let tool: RawClient;

function start(options?: EmulatedXenstoredOptions): void {
  daemon = new EmulatedXenstored(options);
  tool = RawClient.onTransport(daemon.connect(0));
}

beforeEach(() => start());

/** A domain with its home, as xl makes it. */
async function guest(domid: number): Promise<RawClient> {
  const home = `/local/domain/${domid}`;
  await tool.ask(XsOp.mkdir, `${home}\0`);
  await tool.ask(XsOp.setPermissions, `${home}\0n${domid}\0`);
  daemon.introduceDomain(domid);
  return RawClient.onTransport(daemon.connect(domid));
}

async function ok(client: RawClient, type: number, payload: string, transaction = 0): Promise<void> {
  expect(await client.ask(type, payload, transaction)).toBe('OK\0');
}

async function begin(client: RawClient): Promise<number> {
  return Number.parseInt(await client.ask(XsOp.transactionStart, '\0'), 10);
}

describe('nodes', () => {
  it('begins with /tool/xenstored, owned by domain 0', async () => {
    expect(await tool.ask(XsOp.directory, '/\0')).toBe('tool\0');
    expect(await tool.ask(XsOp.directory, '/tool\0')).toBe('xenstored\0');
    expect(await tool.ask(XsOp.getPermissions, '/tool/xenstored\0')).toBe('n0\0');
  });

  it('are made with all directories above them, in order', async () => {
    await ok(tool, XsOp.write, '/a/b/c\0value');
    await ok(tool, XsOp.write, '/a/a\0');
    await ok(tool, XsOp.mkdir, '/a/0\0');
    expect(await tool.ask(XsOp.read, '/a/b\0')).toBe('');
    expect(await tool.ask(XsOp.read, '/a/b/c\0')).toBe('value');
    expect(await tool.ask(XsOp.directory, '/a\0')).toBe('b\0a\x000\0');
    await ok(tool, XsOp.remove, '/a/a\0');
    await ok(tool, XsOp.mkdir, '/a/a\0');
    expect(await tool.ask(XsOp.directory, '/a\0')).toBe('b\x000\0a\0');
  });

  it('hold any bytes', async () => {
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i)).toString('latin1');
    await ok(tool, XsOp.write, `/a\0${bytes}`);
    expect(await tool.ask(XsOp.read, '/a\0')).toBe(bytes);
  });

  it('keep what was written when the sender changes its buffer', async () => {
    const message = encodeMessage(XsOp.write, 77, 0, Buffer.from('/a\0value'));
    tool.sendRaw(message);
    await tool.takeEvents();
    message.fill(0);
    expect(await tool.ask(XsOp.read, '/a\0')).toBe('value');
  });

  it('are removed with all below; a missing one is fine if its directory is there', async () => {
    await ok(tool, XsOp.write, '/a/b/c\0value');
    await ok(tool, XsOp.remove, '/a\0');
    expect(await tool.ask(XsOp.read, '/a/b/c\0')).toBe('!ENOENT');
    await ok(tool, XsOp.remove, '/a\0');
    expect(await tool.ask(XsOp.remove, '/a/b\0')).toBe('!ENOENT');
    expect(await tool.ask(XsOp.remove, '/\0')).toBe('!EINVAL');
  });

  it.each([
    ['an empty path', XsOp.read, '\0', '!EINVAL'],
    ['no NUL', XsOp.read, '/a', '!EINVAL'],
    ['two strings', XsOp.read, '/a\0/b\0', '!EINVAL'],
    ['nothing', XsOp.read, '', '!EINVAL'],
    ['a double slash', XsOp.read, '//\0', '!EINVAL'],
    ['a slash at the end', XsOp.mkdir, '/a/\0', '!EINVAL'],
    ['a wrong character', XsOp.write, '/a.b\0x', '!EINVAL'],
    ['a path that is too long', XsOp.write, `/${'a'.repeat(2048)}\0x`, '!EINVAL'],
    ['a special name', XsOp.write, '@releaseDomain\0x', '!EINVAL'],
    ['no value', XsOp.write, '/a', '!EINVAL'],
    ['a relative path that is missing', XsOp.read, 'a\0', '!ENOENT'],
    ['an unknown operation', 99, '\0', '!ENOSYS'],
    ['the operation that was removed', 20, '\0', '!ENOSYS'],
    ['an event', XsOp.watchEvent, '/a\0t\0', '!ENOSYS'],
    ['an unknown transaction', XsOp.transactionEnd, 'T\0', '!ENOENT'],
    ['permissions of nobody', XsOp.setPermissions, '/a\0', '!EINVAL'],
    ['permissions that are none', XsOp.setPermissions, '/tool\0x0\0', '!EINVAL'],
    ['a domain path', XsOp.getDomainPath, '7\0', '/local/domain/7\0'],
  ])('%s', async (_, type, payload, answer) => {
    expect(await tool.ask(type, payload)).toBe(answer);
  });
});

describe('DIRECTORY_PART', () => {
  it('gives what DIRECTORY cannot', async () => {
    const names = Array.from({ length: 500 }, (_, i) => `a-rather-long-name-${i}`);
    for (const name of names) await ok(tool, XsOp.mkdir, `/d/${name}\0`);
    expect(await tool.ask(XsOp.directory, '/d\0')).toBe('!E2BIG');
    const found: string[] = [];
    const generations = new Set<string>();
    let offset = 0;
    for (let last = false; !last; ) {
      const part = await tool.ask(XsOp.directoryPart, `/d\0${offset}\0`);
      expect(part.length).toBeLessThanOrEqual(4096);
      const [generation, ...rest] = part.slice(0, -1).split('\0');
      generations.add(generation);
      last = rest.at(-1) === '';
      if (last) rest.pop();
      found.push(...rest);
      offset = found.join('\0').length + 1;
    }
    expect(found).toEqual(names);
    expect(generations.size).toBe(1);
  });

  it('changes its generation with the list', async () => {
    const generation = async () => (await tool.ask(XsOp.directoryPart, '/tool\x000\0')).split('\0')[0];
    const before = await generation();
    expect(await generation()).toBe(before);
    await ok(tool, XsOp.mkdir, '/tool/x\0');
    expect(await generation()).not.toBe(before);
  });

  it('ends with an empty name behind the list', async () => {
    expect(await tool.ask(XsOp.directoryPart, '/tool\x00999\0')).toMatch(/^\d+\0\0$/);
    expect(await tool.ask(XsOp.directoryPart, '/tool\0')).toBe('!EINVAL');
  });
});

describe('permissions', () => {
  it.each([
    ['n0', '!EACCES', '!EACCES'],
    ['r0', 'v', '!EACCES'],
    ['w0', '!EACCES', 'OK\0'],
    ['b0', 'v', 'OK\0'],
    ['n5', 'v', 'OK\0'],
    ['n0 r5', 'v', '!EACCES'],
    ['b0 n5', '!EACCES', '!EACCES'],
    ['n0 w5', '!EACCES', 'OK\0'],
    ['n0 r6 b5', 'v', 'OK\0'],
    ['n0 n5 b5', '!EACCES', '!EACCES'],
  ])('%s: domain 5 reads %j, writes %j', async (permissions, reads, writes) => {
    const domain = await guest(5);
    await guest(6);
    await ok(tool, XsOp.write, '/a\0v');
    await ok(tool, XsOp.setPermissions, `/a\0${permissions.replaceAll(' ', '\0')}\0`);
    expect(await domain.ask(XsOp.read, '/a\0')).toBe(reads);
    expect(await domain.ask(XsOp.write, '/a\0w')).toBe(writes);
  });

  it('let a domain make nodes in its home, which it then owns', async () => {
    const domain = await guest(5);
    await ok(domain, XsOp.write, 'device/vbd/state\x001');
    expect(await tool.ask(XsOp.getPermissions, '/local/domain/5/device/vbd\0')).toBe('n5\0');
    expect(await domain.ask(XsOp.write, '/other\0x')).toBe('!EACCES');
    expect(await domain.ask(XsOp.write, '../6/x\0x')).toBe('!EINVAL');
  });

  it('are inherited, but the maker becomes the owner', async () => {
    const domain = await guest(5);
    await ok(tool, XsOp.setPermissions, '/local/domain/5\0b0\0r6\0');
    await ok(domain, XsOp.mkdir, 'x\0');
    expect(await tool.ask(XsOp.getPermissions, '/local/domain/5/x\0')).toBe('b5\0r6\0');
    await ok(tool, XsOp.mkdir, '/local/domain/5/x/y\0');
    expect(await tool.ask(XsOp.getPermissions, '/local/domain/5/x/y\0')).toBe('b5\0r6\0');
  });

  it('are changed by the owner only, who cannot give the node away', async () => {
    const domain = await guest(5);
    await ok(domain, XsOp.mkdir, 'x\0');
    await ok(domain, XsOp.setPermissions, 'x\0n5\0r0\0');
    expect(await domain.ask(XsOp.setPermissions, 'x\0n0\0')).toBe('!EPERM');
    await ok(tool, XsOp.setPermissions, '/local/domain/5/x\0b0\0');
    expect(await domain.ask(XsOp.setPermissions, 'x\0b0\0')).toBe('!EACCES');
  });

  it('hide whether a node exists', async () => {
    const domain = await guest(5);
    await ok(tool, XsOp.write, '/secret/there\0x');
    expect(await domain.ask(XsOp.read, '/secret/there\0')).toBe('!EACCES');
    expect(await domain.ask(XsOp.read, '/secret/missing\0')).toBe('!EACCES');
    expect(await domain.ask(XsOp.read, 'missing\0')).toBe('!ENOENT');
  });

  it('keep guests from the operations of tools', async () => {
    const domain = await guest(5);
    for (const type of [
      XsOp.control,
      XsOp.introduce,
      XsOp.release,
      XsOp.isDomainIntroduced,
      XsOp.resume,
      XsOp.setTarget,
    ]) {
      expect(await domain.ask(type, '5\0')).toBe('!EACCES');
    }
  });

  it('of a target are those of its device model (SET_TARGET)', async () => {
    const stub = await guest(6);
    await guest(5);
    await ok(tool, XsOp.write, '/local/domain/5/x\0v');
    expect(await stub.ask(XsOp.read, '/local/domain/5/x\0')).toBe('!EACCES');
    await ok(tool, XsOp.setTarget, '6\x005\0');
    expect(await stub.ask(XsOp.read, '/local/domain/5/x\0')).toBe('v');
  });
});

describe('quotas of a domain', () => {
  it('nodes: 1000, ENOSPC', async () => {
    const domain = await guest(5);
    // 20 directories, for the list of a directory counts for its size; and the home itself.
    for (let i = 0; i < 978; i++) await ok(domain, XsOp.mkdir, `d${i % 20}/n${i}\0`);
    expect(await domain.ask(XsOp.mkdir, 'a/b/c\0')).toBe('!ENOSPC');
    expect(await domain.ask(XsOp.read, 'a\0')).toBe('!ENOENT');
    await ok(domain, XsOp.mkdir, 'last\0');
    expect(await domain.ask(XsOp.mkdir, 'over\0')).toBe('!ENOSPC');
    await ok(domain, XsOp.write, 'last\0value');
    await ok(domain, XsOp.remove, 'last\0');
    await ok(domain, XsOp.mkdir, 'over\0');
    await ok(tool, XsOp.mkdir, '/local/domain/5/by-a-tool\0');
  });

  it('nodes in a transaction: found at the commit', async () => {
    start({ quotas: { nodes: 5 } });
    const domain = await guest(5);
    const transaction = await begin(domain);
    for (let i = 0; i < 8; i++) await ok(domain, XsOp.mkdir, `n${i}\0`, transaction);
    expect(await domain.ask(XsOp.transactionEnd, 'T\0', transaction)).toBe('!ENOSPC');
    expect(await domain.ask(XsOp.directory, '/local/domain/5\0')).toBe('');
  });

  it('bytes of a node: below 2048 with everything, ENOSPC', async () => {
    const domain = await guest(5);
    expect(await domain.ask(XsOp.write, `x\0${'v'.repeat(2016)}`)).toBe('!ENOSPC');
    await ok(domain, XsOp.write, `x\0${'v'.repeat(2015)}`);
    await ok(tool, XsOp.write, `/local/domain/5/y\0${'v'.repeat(4000)}`);
  });

  it('watches: 128 and one, E2BIG', async () => {
    const domain = await guest(5);
    for (let i = 0; i < 129; i++) await ok(domain, XsOp.watch, `w${i}\0t\0`);
    expect(await domain.ask(XsOp.watch, 'more\0t\0')).toBe('!E2BIG');
    await ok(domain, XsOp.resetWatches, '\0');
    await ok(domain, XsOp.watch, 'more\0t\0');
    expect(daemon.watchCount).toBe(1);
  });

  it('transactions: 10 and one, ENOSPC, for all connections together', async () => {
    const domain = await guest(5);
    const another = RawClient.onTransport(daemon.connect(5));
    for (let i = 0; i < 11; i++) await begin(i % 2 ? domain : another);
    expect(await domain.ask(XsOp.transactionStart, '\0')).toBe('!ENOSPC');
    another.close();
    expect(await domain.ask(XsOp.transactionStart, '\0')).toMatch(/^\d+\0$/);
  });

  it('nodes that a transaction touches: 1024, ENOSPC, then ENOMEM at the commit', async () => {
    const domain = await guest(5);
    const transaction = await begin(domain);
    let answer = '';
    for (let i = 0; answer !== '!ENOSPC' && i < 2000; i++) {
      answer = await domain.ask(XsOp.read, `n${i}\0`, transaction);
    }
    expect(answer).toBe('!ENOSPC');
    expect(await domain.ask(XsOp.transactionEnd, 'T\0', transaction)).toBe('!ENOMEM');
  });

  it('permissions of a node: 5, ENOSPC', async () => {
    const domain = await guest(5);
    await ok(domain, XsOp.setPermissions, '/local/domain/5\0n5\0r1\0r2\0r3\0r4\0');
    expect(await domain.ask(XsOp.setPermissions, '/local/domain/5\0n5\0r1\0r2\0r3\0r4\0r6\0')).toBe('!ENOSPC');
  });

  it('leave domain 0 alone', async () => {
    for (let i = 0; i < 1500; i++) await ok(tool, XsOp.watch, `/w${i}\0t\0`);
    for (let i = 0; i < 50; i++) await begin(tool);
  });
});

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

describe('transactions', () => {
  it.each([
    ['a node that was read', XsOp.read, '/a\0', XsOp.write, '/a\0x', false],
    ['a node that was read, by its removal', XsOp.read, '/a\0', XsOp.remove, '/a\0', false],
    ['a node that was missing', XsOp.read, '/b\0', XsOp.write, '/b\0x', false],
    ['a node that was overwritten blindly', XsOp.write, '/a\0y', XsOp.write, '/a\0x', false],
    ['permissions', XsOp.read, '/a\0', XsOp.setPermissions, '/a\0r0\0', false],
    ['the directory of a new node, by another child', XsOp.write, '/new\0y', XsOp.write, '/other\0x', false],
    ['the list of a directory', XsOp.directory, '/\0', XsOp.mkdir, '/other\0', false],
    ['another node', XsOp.write, '/a\0y', XsOp.write, '/c\0x', true],
    ['the value of the directory above', XsOp.write, '/d/e\0y', XsOp.write, '/d\0x', true],
    ['a node below', XsOp.read, '/d\0', XsOp.write, '/d/e\0x', true],
  ])('meet a change of %s', async (_, type, payload, outsideType, outsidePayload, commits) => {
    for (const path of ['/a', '/c', '/d/e']) await ok(tool, XsOp.write, `${path}\0v`);
    const transaction = await begin(tool);
    await tool.ask(type, payload, transaction);
    await ok(tool, outsideType, outsidePayload);
    expect(await tool.ask(XsOp.transactionEnd, 'T\0', transaction)).toBe(commits ? 'OK\0' : '!EAGAIN');
    expect(await tool.ask(XsOp.transactionEnd, 'T\0', transaction)).toBe('!ENOENT');
  });

  it('keep what they have seen, and see what they have not looked at', async () => {
    await ok(tool, XsOp.write, '/a/1\0old');
    await ok(tool, XsOp.write, '/a/2\0old');
    const transaction = await begin(tool);
    expect(await tool.ask(XsOp.read, '/a/1\0', transaction)).toBe('old');
    expect(await tool.ask(XsOp.directory, '/a\0', transaction)).toBe('1\x002\0');
    await ok(tool, XsOp.write, '/a/1\0new');
    await ok(tool, XsOp.write, '/a/2\0new');
    await ok(tool, XsOp.write, '/a/3\0new');
    expect(await tool.ask(XsOp.read, '/a/1\0', transaction)).toBe('old');
    expect(await tool.ask(XsOp.read, '/a/2\0', transaction)).toBe('new');
    expect(await tool.ask(XsOp.directory, '/a\0', transaction)).toBe('1\x002\0');
  });

  it('fail when the test wants it', async () => {
    let conflicts = 2;
    start({ conflict: () => conflicts-- > 0 });
    const outcomes: string[] = [];
    for (let i = 0; i < 3; i++) {
      const transaction = await begin(tool);
      await ok(tool, XsOp.write, `/a\0${i}`, transaction);
      outcomes.push(await tool.ask(XsOp.transactionEnd, 'T\0', transaction));
    }
    expect(outcomes).toEqual(['!EAGAIN', '!EAGAIN', 'OK\0']);
    expect(await tool.ask(XsOp.read, '/a\0')).toBe('2');
  });

  it('belong to their connection', async () => {
    const transaction = await begin(tool);
    const other = RawClient.onTransport(daemon.connect(0));
    expect(await other.ask(XsOp.read, '/tool\0', transaction)).toBe('!ENOENT');
    expect(await tool.ask(XsOp.transactionStart, '\0', transaction)).toBe('!EBUSY');
    expect(await tool.ask(XsOp.transactionEnd, 'X\0', transaction)).toBe('!EINVAL');
    expect(await tool.ask(XsOp.transactionEnd, 'F\0', transaction)).toBe('OK\0');
  });

  it('of different directories do not disturb one another', async () => {
    for (const path of ['/a', '/b']) await ok(tool, XsOp.mkdir, `${path}\0`);
    const [first, second] = [await begin(tool), await begin(tool)];
    await ok(tool, XsOp.write, '/a/x\x001', first);
    await ok(tool, XsOp.write, '/b/x\x002', second);
    await ok(tool, XsOp.transactionEnd, 'T\0', second);
    await ok(tool, XsOp.transactionEnd, 'T\0', first);
    expect(await tool.ask(XsOp.read, '/b/x\0')).toBe('2');
  });

  it('leave a directory as a list of changes would', async () => {
    const name = fc.constantFrom('a', 'b', 'c', 'd');
    const change = fc.record({ inside: fc.boolean(), add: fc.boolean(), name });
    await fc.assert(
      fc.asyncProperty(fc.array(change, { maxLength: 30 }), async (changes) => {
        start();
        await ok(tool, XsOp.mkdir, '/d\0');
        for (const initial of ['a', 'b']) await ok(tool, XsOp.mkdir, `/d/${initial}\0`);
        let expected = ['a', 'b'];
        const transactions = [await begin(tool), await begin(tool)];
        for (const transaction of transactions) await tool.ask(XsOp.directory, '/d\0', transaction);
        for (const { inside, add, name } of changes) {
          const transaction = inside ? transactions[0] : 0;
          await tool.ask(add ? XsOp.mkdir : XsOp.remove, `/d/${name}\0`, transaction);
          if (inside) continue;
          if (!add) expected = expected.filter((other) => other !== name);
          else if (!expected.includes(name)) expected.push(name);
        }
        const inside = (await tool.ask(XsOp.directory, '/d\0', transactions[0])).split('\0').slice(0, -1);
        if ((await tool.ask(XsOp.transactionEnd, 'T\0', transactions[0])) === 'OK\0') expected = inside;
        expect((await tool.ask(XsOp.directory, '/d\0')).split('\0').slice(0, -1)).toEqual(expected);
        expect(await tool.ask(XsOp.directory, '/d\0', transactions[1])).toBe('a\0b\0');
      }),
      { numRuns: 200 },
    );
  });
});

describe('domains', () => {
  it('are told of by special watches, once', async () => {
    for (const name of ['@introduceDomain', '@releaseDomain']) await ok(tool, XsOp.watch, `${name}\0t\0`);
    expect(await tool.takeEvents()).toEqual(['@introduceDomain t', '@releaseDomain t']);
    daemon.introduceDomain(5);
    daemon.introduceDomain(5);
    expect(await tool.takeEvents()).toEqual(['@introduceDomain t']);
    expect(await tool.ask(XsOp.isDomainIntroduced, '5\0')).toBe('T\0');
    for (const round of [1, 2]) {
      daemon.domainShutDown(5);
      daemon.domainShutDown(5);
      expect([round, await tool.takeEvents()]).toEqual([round, ['@releaseDomain t']]);
      await ok(tool, XsOp.resume, '5\0');
    }
    daemon.releaseDomain(5);
    daemon.releaseDomain(5);
    expect(await tool.takeEvents()).toEqual(['@releaseDomain t']);
    expect(await tool.ask(XsOp.isDomainIntroduced, '5\0')).toBe('F\0');
  });

  it('hear of others only with permission', async () => {
    const domain = await guest(5);
    await ok(domain, XsOp.watch, '@releaseDomain\0t\0');
    await domain.takeEvents();
    daemon.introduceDomain(6);
    daemon.releaseDomain(6);
    expect(await domain.takeEvents()).toEqual([]);
    await ok(tool, XsOp.setPermissions, '@releaseDomain\0n0\0r5\0');
    daemon.introduceDomain(6);
    daemon.releaseDomain(6);
    expect(await domain.takeEvents()).toEqual(['@releaseDomain t']);
    expect(await domain.ask(XsOp.setPermissions, '@releaseDomain\0n5\0')).toBe('!EACCES');
    expect(await tool.ask(XsOp.setPermissions, '@else\0n5\0')).toBe('!EINVAL');
  });

  it('lose their connection, watches and nodes when released', async () => {
    const domain = await guest(5);
    await ok(domain, XsOp.write, 'data/x\0v');
    await ok(domain, XsOp.watch, 'data\0t\0');
    await ok(tool, XsOp.watch, '/local/domain\0t\0');
    await tool.takeEvents();
    await ok(tool, XsOp.release, '5\0');
    await domain.untilClosed();
    expect(daemon.watchCount).toBe(1);
    expect(await tool.ask(XsOp.read, '/local/domain/5\0')).toBe('!ENOENT');
    expect(await tool.takeEvents()).toEqual(['/local/domain/5 t']);
  });

  it('do not inherit what a domain of the same number was allowed', async () => {
    await guest(5);
    await ok(tool, XsOp.write, '/shared\0v');
    await ok(tool, XsOp.setPermissions, '/shared\0n0\0r5\0');
    daemon.releaseDomain(5);
    const successor = await guest(5);
    expect(await successor.ask(XsOp.read, '/shared\0')).toBe('!EACCES');
    expect(await tool.ask(XsOp.getPermissions, '/shared\0')).toBe('n0\0r5\0');
    await ok(tool, XsOp.setPermissions, '/shared\0n0\0r5\0');
    expect(await successor.ask(XsOp.read, '/shared\0')).toBe('v');
  });

  it('must exist to own a node', async () => {
    start({ domainExists: (domid) => domid < 10 });
    await ok(tool, XsOp.mkdir, '/a\0');
    expect(await tool.ask(XsOp.setPermissions, '/a\0n77\0')).toBe('!ENOENT');
    await ok(tool, XsOp.setPermissions, '/a\0n0\0r77\0');
    expect(await tool.ask(XsOp.introduce, '77\x001\x002\0')).toBe('!EINVAL');
    expect(() => daemon.connect(77)).toThrow(/no domain 77/);
    expect(() => daemon.connect(-1)).toThrow(expect.objectContaining({ code: 'ESRCH' }));
  });

  it('that tools introduce are reported to the host', async () => {
    const introduced: number[][] = [];
    const released: number[] = [];
    start({
      onIntroduce: (domid, port) => introduced.push([domid, port]),
      onRelease: (domid) => released.push(domid),
    });
    await ok(tool, XsOp.introduce, '5\x001\x007\0');
    await ok(tool, XsOp.resume, '5\0');
    await ok(tool, XsOp.release, '5\0');
    expect([introduced, released]).toEqual([[[5, 7]], [5]]);
    expect(await tool.ask(XsOp.release, '5\0')).toBe('!ENOENT');
    expect(await tool.ask(XsOp.introduce, '5\x001\x000\0')).toBe('!EINVAL');
  });
});

describe('the daemon of 4.22', () => {
  beforeEach(() => start({ version: '4.22' }));

  it('has features, which domains may be denied before they are introduced', async () => {
    expect(await tool.ask(XsOp.getFeature, '')).toBe('6\0');
    await ok(tool, XsOp.setFeature, '5\x002\0');
    expect(await tool.ask(XsOp.getFeature, '5\0')).toBe('2\0');
    expect(await tool.ask(XsOp.setFeature, '5\x001\0')).toBe('!EINVAL');
    daemon.introduceDomain(5);
    expect(await tool.ask(XsOp.setFeature, '5\x006\0')).toBe('!EBUSY');
    const domain = RawClient.onTransport(daemon.connect(5));
    expect(await domain.ask(XsOp.getFeature, '')).toBe('2\0');
    expect(await domain.ask(XsOp.getFeature, '0\0')).toBe('!EACCES');
    expect(await domain.ask(XsOp.setFeature, '5\x002\0')).toBe('!EACCES');
  });

  it('has quotas by domain', async () => {
    const domain = await guest(5);
    expect(await tool.ask(XsOp.getQuota, '')).toContain('nodes watches transactions');
    expect(await tool.ask(XsOp.getQuota, 'watches\0')).toBe('128\0');
    await ok(tool, XsOp.setQuota, '5\0watches\x001\0');
    expect(await tool.ask(XsOp.getQuota, '5\0watches\0')).toBe('1\0');
    expect(await tool.ask(XsOp.getQuota, 'watches\0')).toBe('128\0');
    for (const path of ['a', 'b']) await ok(domain, XsOp.watch, `${path}\0t\0`);
    expect(await domain.ask(XsOp.watch, 'c\0t\0')).toBe('!E2BIG');
    await ok(tool, XsOp.setQuota, '5\0watches\x000\0');
    for (let i = 0; i < 200; i++) await ok(domain, XsOp.watch, `w${i}\0t\0`);
    expect(await tool.ask(XsOp.getQuota, '5\0watches\0')).toBe('0\0');
    for (const payload of ['none\0', '5\0none\0', 'a\0b\0c\0']) {
      expect(await tool.ask(XsOp.getQuota, payload)).toBe('!EINVAL');
    }
    expect(await tool.ask(XsOp.setQuota, 'watches\0-1\0')).toBe('!EINVAL');
  });

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

describe('the daemon of 4.17', () => {
  it.each([
    ['GET_FEATURE', XsOp.getFeature, '0\0'],
    ['SET_FEATURE', XsOp.setFeature, '5\x000\0'],
    ['GET_QUOTA', XsOp.getQuota, 'nodes\0'],
    ['SET_QUOTA', XsOp.setQuota, 'nodes\x001\0'],
  ])('does not know %s', async (_, type, payload) => {
    expect(await tool.ask(type, payload)).toBe('!ENOSYS');
  });
});

describe('CONTROL', () => {
  it.each([
    ['check\0', 'OK\0'],
    ['print\0text\0', 'OK\0'],
    ['log\0on\0', 'OK\0'],
    ['print\0', '!EINVAL'],
    ['nonsense\0', '!EINVAL'],
    ['', '!EINVAL'],
    ['quota\0set\0none\x005\0', '!EINVAL'],
    ['quota\0set\0nodes\0x\0', '!EINVAL'],
    ['quota\x0099\0', '!ENOENT'],
  ])('%j is answered %j', async (payload, answer) => {
    expect(await tool.ask(XsOp.control, payload)).toBe(answer);
  });

  it('shows and sets quotas', async () => {
    const domain = await guest(5);
    expect(await tool.ask(XsOp.control, 'help\0')).toContain('quota');
    expect(await tool.ask(XsOp.control, 'quota\0')).toMatch(/nodes +: +1000 Nodes per domain\n/);
    await ok(tool, XsOp.control, 'quota\0set\0nodes\x002\0');
    await ok(domain, XsOp.mkdir, 'a\0');
    expect(await domain.ask(XsOp.mkdir, 'b\0')).toBe('!ENOSPC');
    expect(await tool.ask(XsOp.control, 'quota\x005\0')).toMatch(/^Domain 5:\nnodes +: +2\n/);
  });
});

describe('bad clients', () => {
  it('are closed after a header that claims too much', async () => {
    const header = encodeMessage(XsOp.read, 1, 0, Buffer.alloc(0));
    new DataView(header.buffer, header.byteOffset).setUint32(12, 4097, true);
    tool.sendRaw(header);
    await tool.untilClosed();
  });

  it('never disturb the daemon, whatever they send', async () => {
    const witness = tool;
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 64 }), fc.nat(30), fc.boolean(), async (bytes, type, framed) => {
        const client = RawClient.onTransport(daemon.connect(5));
        if (framed) await client.request(type, bytes);
        else client.sendRaw(bytes);
        client.close();
        expect(await witness.ask(XsOp.directory, '/tool\0')).toBe('xenstored\0');
      }),
      { numRuns: 1000 },
    );
  });

  it('that only await one another let timers run', async () => {
    let turns = 0;
    let busy = true;
    const loop = async (client: RawClient): Promise<void> => {
      while (busy) await client.ask(XsOp.read, '/tool\0');
    };
    const loops = [loop(tool), loop(RawClient.onTransport(daemon.connect(0)))];
    while (turns < 10) {
      await nextTurn();
      turns++;
    }
    busy = false;
    await Promise.all(loops);
  });

  it('that take nothing get no more than their quota', async () => {
    await guest(5);
    const transport = daemon.connect(5);
    for (let i = 0; i < 1000; i++) transport.send(encodeMessage(XsOp.mkdir, i, 0, Buffer.from(`n${i}\0`)));
    await tool.takeEvents();
    const names = (await tool.ask(XsOp.directory, '/local/domain/5\0')).split('\0').length - 1;
    expect(names).toBe(20);
    let replies = 0;
    const all = new Promise<void>((resolve) => {
      transport.start({ data: () => ++replies === 1000 && resolve(), close: () => {} });
    });
    await all;
  });
});

describe('closing', () => {
  it('ends all connections and is harmless when repeated', async () => {
    const domain = await guest(5);
    await daemon.close();
    await Promise.all([tool.untilClosed(), domain.untilClosed()]);
    await daemon.close();
    const late = RawClient.onTransport(daemon.connect(0));
    await late.untilClosed();
  });
});
