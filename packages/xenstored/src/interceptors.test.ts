import { XenstoreClient } from '@xenpv/xenstore';
import { describe, expect, it } from 'vitest';
import { EmulatedXenstored } from './xenstored.js';

describe('an interceptor', () => {
  it('of events may keep one back for good, and asks the next one about the others', async () => {
    await using xenstored = new EmulatedXenstored();
    const seen: string[] = [];
    const undo = xenstored.intercept({ event: ({ path }, send) => (path === '/a/lost' ? undefined : send()) });
    xenstored.intercept({
      event: ({ domid, path }, send) => {
        seen.push(`${domid} ${path}`);
        send();
      },
    });
    await using client = XenstoreClient.open(xenstored.connect(0));
    await using watch = await client.watch('/a');
    for (const path of ['/a/lost', '/a/told']) await client.write(path, '');
    const told = async () => (await watch.next()).value?.path;
    let path = await told();
    while (path === '/a') path = await told();
    expect(path).toBe('/a/told');
    expect(seen).toEqual(['0 /a/told']);
    undo();
    undo();
    await client.write('/a/lost', '');
    expect(seen).toEqual(['0 /a/told', '0 /a/lost']);
  });

  it('of events sends nothing for a watch that is gone by then', async () => {
    await using xenstored = new EmulatedXenstored();
    const late: (() => void)[] = [];
    xenstored.intercept({ event: (_event, send) => void late.push(send) });
    await using client = XenstoreClient.open(xenstored.connect(0));
    const watch = await client.watch('/a');
    await client.write('/a', '');
    await watch[Symbol.asyncDispose]();
    expect(late).toHaveLength(1);
    late[0]();
    expect(await client.read('/a')).toBe('');
  });

  it('of connections ends those that it does not admit, also for a client that begins to listen later', async () => {
    await using xenstored = new EmulatedXenstored();
    const undo = xenstored.intercept({ admit: (domid) => domid !== 5 });
    const transport = xenstored.connect(5);
    await new Promise(setImmediate);
    const reason = await new Promise((resolve) => transport.start({ data: () => {}, close: resolve }));
    expect(reason).toEqual(new Error('the connection was ended'));
    undo();
    await using client = XenstoreClient.open(xenstored.connect(5));
    await expect(client.read('/nothing')).rejects.toMatchObject({ code: 'EACCES' });
  });

  it('of errors hears of each', async () => {
    await using xenstored = new EmulatedXenstored();
    const refused: string[] = [];
    xenstored.intercept({ refused: (domid, error) => void refused.push(`${domid} ${error}`) });
    await using client = XenstoreClient.open(xenstored.connect(0));
    await client.tryRead('/nothing');
    expect(refused).toEqual(['0 ENOENT']);
  });
});

describe('other limits', () => {
  it('hold for a domain until they are undone, for domain 0 too, also over one another', async () => {
    await using xenstored = new EmulatedXenstored();
    await using client = XenstoreClient.open(xenstored.connect(0));
    const write = (length: number) => client.write('/a', 'x'.repeat(length)).catch((e: { code: string }) => e.code);
    const first = xenstored.limit(0, { nodeBytes: 100 });
    const second = xenstored.limit(0, { nodeBytes: 200 });
    expect([await write(90), await write(250)]).toEqual([undefined, 'ENOSPC']);
    second();
    expect(await write(90)).toBe('ENOSPC');
    first();
    expect(await write(3000)).toBe(undefined);
  });

  it('are refused for what is no domain', async () => {
    await using xenstored = new EmulatedXenstored({ domainExists: (domid) => domid < 7 });
    expect(() => xenstored.limit(7, {})).toThrow(expect.objectContaining({ code: 'ESRCH' }));
    expect(xenstored.disconnect(7)).toBe(0);
  });
});
