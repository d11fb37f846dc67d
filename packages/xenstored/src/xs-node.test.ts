import { XsOp } from '@xenpv/xenstore';
import { beforeEach, describe, expect, it } from 'vitest';
import { RawClient } from './testing/raw-client.js';
import { EmulatedXenstored } from './xenstored.js';

/** The list of QEMU's tests/unit/test-xs-node.c, against a store that counts as the C daemon does. */
describe('the cases of QEMU’s xs_node tests', () => {
  let daemon: EmulatedXenstored;
  let tool: RawClient;
  let guest: RawClient;
  /** Nodes before the case: the guest's home and `some` in it. */
  let base: number;

  beforeEach(async () => {
    daemon = new EmulatedXenstored();
    tool = RawClient.onTransport(daemon.connect(0));
    guest = RawClient.onTransport(daemon.connect(1));
    await ok(tool, XsOp.mkdir, '/local/domain/1\0');
    await ok(tool, XsOp.setPermissions, '/local/domain/1\0n0\0r1\0');
    await ok(tool, XsOp.mkdir, '/local/domain/1/some\0');
    await ok(tool, XsOp.setPermissions, '/local/domain/1/some\0n1\0');
    base = daemon.nodeCount;
  });

  async function ok(client: RawClient, type: number, payload: string, transaction = 0): Promise<void> {
    expect(await client.ask(type, payload, transaction)).toBe('OK\0');
  }

  async function begin(): Promise<number> {
    return Number.parseInt(await guest.ask(XsOp.transactionStart, '\0'), 10);
  }

  const commit = (transaction: number): Promise<string> => guest.ask(XsOp.transactionEnd, 'T\0', transaction);
  const read = (path: string, transaction = 0): Promise<string> => guest.ask(XsOp.read, `${path}\0`, transaction);

  it('simple', async () => {
    await ok(guest, XsOp.watch, 'some\0guest\0');
    expect(await guest.takeEvents()).toEqual(['some guest']);
    await ok(tool, XsOp.watch, '/local/domain/1/some\0tool\0');
    expect(await tool.takeEvents()).toEqual(['/local/domain/1/some tool']);
    expect(await read('some/relative/path')).toBe('!ENOENT');
    await ok(guest, XsOp.write, 'some/relative/path\0something');
    expect(daemon.nodeCount).toBe(base + 2);
    expect(await guest.takeEvents()).toEqual(['some/relative/path guest']);
    expect(await tool.takeEvents()).toEqual(['/local/domain/1/some/relative/path tool']);
    expect(await read('some/relative/path')).toBe('something');
    expect(await read('/local/domain/1/some/relative/path')).toBe('something');
    await ok(tool, XsOp.resetWatches, '\0');
    expect(await guest.ask(XsOp.write, '/local/domain/badplace\0x')).toBe('!EACCES');
    expect(daemon.nodeCount).toBe(base + 2);
    await ok(guest, XsOp.write, 'some/relative/path2\0else');
    await ok(guest, XsOp.write, 'some/relative/path2\0otherwise');
    expect(daemon.nodeCount).toBe(base + 3);
    expect(await tool.takeEvents()).toEqual([]);
    expect(await guest.ask(XsOp.directory, 'some/relative\0')).toBe('path\0path2\0');
    await guest.takeEvents();
    await ok(guest, XsOp.unwatch, 'some\0guest\0');
    expect(await guest.ask(XsOp.unwatch, 'some\0guest\0')).toBe('!ENOENT');
    await ok(guest, XsOp.watch, 'some/relative/path2\0leaf\0');
    await ok(guest, XsOp.watch, 'some/relative\0directory\0');
    await guest.takeEvents();
    await ok(guest, XsOp.write, 'some/relative\0value');
    expect(await guest.takeEvents()).toEqual(['some/relative directory']);
    await ok(guest, XsOp.remove, 'some/relative\0');
    expect(daemon.nodeCount).toBe(base);
    expect(await guest.takeEvents()).toEqual(['some/relative/path2 leaf', 'some/relative directory']);
    expect(await read('some/relative/path')).toBe('!ENOENT');
  });

  describe('transactions', () => {
    beforeEach(async () => {
      await ok(guest, XsOp.write, 'some/relative/path\0old');
      await ok(guest, XsOp.watch, 'some\0t\0');
      await guest.takeEvents();
    });

    it.each([false, true])('tx_abort, with a conflict: %s', async (conflict) => {
      const transaction = await begin();
      await ok(guest, XsOp.write, 'some/relative/path\0new', transaction);
      expect(await read('some/relative/path')).toBe('old');
      expect(await read('some/relative/path', transaction)).toBe('new');
      if (conflict) await ok(guest, XsOp.write, 'some/relative/path\0outside');
      await guest.takeEvents();
      await ok(guest, XsOp.transactionEnd, 'F\0', transaction);
      expect(await guest.takeEvents()).toEqual([]);
      expect(await read('some/relative/path')).toBe(conflict ? 'outside' : 'old');
    });

    it('tx_fail', async () => {
      const transaction = await begin();
      await ok(guest, XsOp.write, 'some/relative/path\0new', transaction);
      await ok(guest, XsOp.write, 'some/relative/path\0outside');
      await guest.takeEvents();
      expect(await commit(transaction)).toBe('!EAGAIN');
      expect(await guest.takeEvents()).toEqual([]);
      expect(await read('some/relative/path')).toBe('outside');
    });

    it('tx_succeed', async () => {
      const transaction = await begin();
      await ok(guest, XsOp.write, 'some/relative/path\0new', transaction);
      expect(await read('some/relative/path')).toBe('old');
      expect(await guest.takeEvents()).toEqual([]);
      expect(await commit(transaction)).toBe('OK\0');
      expect(await guest.takeEvents()).toEqual(['some/relative/path t']);
      expect(await read('some/relative/path')).toBe('new');
      expect(daemon.nodeCount).toBe(base + 2);
    });

    it('tx_rm', async () => {
      await ok(guest, XsOp.write, 'some/deep/dark/relative/path\0value');
      await guest.takeEvents();
      expect(daemon.nodeCount).toBe(base + 6);
      const transaction = await begin();
      await ok(guest, XsOp.remove, 'some/deep\0', transaction);
      expect(daemon.nodeCount).toBe(base + 6);
      expect(await read('some/deep/dark/relative/path')).toBe('value');
      expect(await guest.takeEvents()).toEqual([]);
      expect(await commit(transaction)).toBe('OK\0');
      expect(daemon.nodeCount).toBe(base + 2);
      expect(await guest.takeEvents()).toEqual(['some/deep t']);
      expect(await read('some/deep/dark/relative/path')).toBe('!ENOENT');
    });

    it('tx_resurrect: another leaf below', async () => {
      await ok(guest, XsOp.write, 'some/deep/dark/relative/path\0value');
      await ok(guest, XsOp.write, 'some/deep/dark/node\0data');
      await ok(guest, XsOp.watch, 'some/deep/dark/node\0node\0');
      await ok(guest, XsOp.watch, 'some/deep/dark/relative\0relative\0');
      await guest.takeEvents();
      const before = daemon.nodeCount;
      const transaction = await begin();
      await ok(guest, XsOp.remove, 'some/deep\0', transaction);
      await ok(guest, XsOp.write, 'some/deep/dark/different/path\0new', transaction);
      expect(await commit(transaction)).toBe('OK\0');
      expect(daemon.nodeCount).toBe(before - 1);
      const events = await guest.takeEvents();
      expect(events.sort()).toEqual([
        'some/deep t',
        'some/deep/dark/different/path t',
        'some/deep/dark/node node',
        'some/deep/dark/relative relative',
      ]);
    });

    it('tx_resurrect2: the same leaf', async () => {
      await ok(guest, XsOp.write, 'some/deep/dark/relative/path\0value');
      await guest.takeEvents();
      const transaction = await begin();
      await ok(guest, XsOp.remove, 'some/deep\0', transaction);
      await ok(guest, XsOp.write, 'some/deep/dark/relative/path\0again', transaction);
      expect(await commit(transaction)).toBe('OK\0');
      expect((await guest.takeEvents()).sort()).toEqual(['some/deep t', 'some/deep/dark/relative/path t']);
      expect(await read('some/deep/dark/relative/path')).toBe('again');
    });
  });
});
