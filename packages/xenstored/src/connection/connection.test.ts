import { setImmediate as nextTurn } from 'node:timers/promises';
import { encodeMessage, XsOp } from '@xenpv/xenstore';
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { RawClient } from '../testing/raw-client.js';
import { daemon, guest, start, tool } from '../testing/scene.js';

beforeEach(() => start());

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
