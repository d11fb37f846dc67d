import { describe, expect, it } from 'vitest';
import { fakeConnection, stringsOf } from '../testing/fake-transport.js';
import { xsOpName } from '../wire/wire.js';

describe('waitFor', () => {
  it('watches each path before it looks, once, and unwatches it in the end', async () => {
    const { transport, client } = fakeConnection();
    const waiting = client.waitFor(async (look) => ((await look.tryRead('/a')) === '2' ? 'two' : undefined));
    const token = await transport.confirmWatch();
    transport.replyBytes(await transport.next(), '1');
    transport.event('/a', token);
    const again = await transport.next();
    expect(xsOpName(again.type)).toBe('read');
    transport.replyBytes(again, '2');
    const end = await transport.next();
    expect([xsOpName(end.type), stringsOf(end)]).toEqual(['unwatch', ['/a', token]]);
    transport.reply(end, 'OK');
    expect(await waiting).toBe('two');
    expect(transport.sent).toEqual([]);
  });

  it('unwatches when it is aborted', async () => {
    const { transport, client } = fakeConnection();
    const abort = new AbortController();
    const waiting = client.waitFor((look) => look.tryRead('/a'), { signal: abort.signal });
    const token = await transport.confirmWatch();
    const read = await transport.next();
    abort.abort(new Error('enough'));
    const end = await transport.next();
    expect([xsOpName(end.type), stringsOf(end)]).toEqual(['unwatch', ['/a', token]]);
    transport.fail(read, 'ENOENT');
    transport.reply(end, 'OK');
    await expect(waiting).rejects.toThrow('enough');
  });
});
