import { XsOp } from '@xenpv/xenstore';
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { RawClient } from '../testing/raw-client.js';
import { begin, daemon, ok, start, tool } from '../testing/scene.js';

beforeEach(() => start());

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
