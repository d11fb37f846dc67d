import { XsOp } from '@xenpv/xenstore';
import { beforeEach, describe, expect, it } from 'vitest';
import { RawClient } from '../testing/raw-client.js';
import { begin, daemon, guest, ok, start, tool } from '../testing/scene.js';

beforeEach(() => start());

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
