import { createRequire } from 'node:module';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { encodeMessage, XsOp } from '@xenpv/xenstore';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { RawClient } from '../testing/raw-client.js';
import { EmulatedXenstored } from '../xenstored.js';
import type { RingPage } from './ring-page.js';
import { RingTransport } from './ring-transport.js';

let daemon: EmulatedXenstored;
let page: RingPage;
let tool: RawClient;

beforeEach(async () => {
  daemon = new EmulatedXenstored();
  page = { buffer: new SharedArrayBuffer(8192), byteOffset: 4096 };
  tool = RawClient.onTransport(daemon.connect(0));
  await tool.ask(XsOp.mkdir, '/local/domain/5\0');
  await tool.ask(XsOp.setPermissions, '/local/domain/5\0n5\0');
  daemon.introduceDomain(5);
});

afterEach(() => daemon.close());

function word(offset: number): Int32Array {
  return new Int32Array(page.buffer, page.byteOffset + offset, 1);
}

describe('the ring of a guest', () => {
  it('carries requests, replies and events', async () => {
    daemon.attachRing(5, page);
    const guest = RawClient.onTransport(new RingTransport({ page }));
    expect(await guest.ask(XsOp.write, 'data/x\0value')).toBe('OK\0');
    expect(await guest.ask(XsOp.write, '/tool/x\0value')).toBe('!EACCES');
    expect(await guest.ask(XsOp.watch, 'data\0t\0')).toBe('OK\0');
    await tool.ask(XsOp.write, '/local/domain/5/data/y\0v');
    expect(await guest.takeEvents()).toEqual(['data t', 'data/y t']);
    guest.close();
  });

  it('carries messages larger than itself, many at once, past the end of 32 bits', async () => {
    for (const index of [2048, 2052, 2056, 2060]) word(index)[0] = -100;
    daemon.attachRing(5, page);
    const guest = RawClient.onTransport(new RingTransport({ page }));
    const big = 'b'.repeat(1990);
    const writes = Array.from({ length: 100 }, (_, i) => guest.ask(XsOp.write, `d${i % 10}/${i}\0${i}${big}`));
    expect(await Promise.all(writes)).toEqual(writes.map(() => 'OK\0'));
    const reads = Array.from({ length: 100 }, (_, i) => guest.ask(XsOp.read, `d${i % 10}/${i}\0`));
    expect(await Promise.all(reads)).toEqual(reads.map((_, i) => `${i}${big}`));
    guest.close();
  });

  it('works with event channels instead of doorbells', async () => {
    let transport: RingTransport | undefined;
    const server = daemon.attachRing(5, page, { notify: () => queueMicrotask(() => transport?.kick()) });
    transport = new RingTransport({ page, notify: () => queueMicrotask(() => server.kick()) });
    const guest = RawClient.onTransport(transport);
    const answers = await Promise.all(
      Array.from({ length: 200 }, () => guest.ask(XsOp.directory, '/local/domain/5\0')),
    );
    expect(new Set(answers)).toEqual(new Set(['']));
    guest.close();
  });

  it('is served on another thread', async () => {
    daemon.attachRing(5, page);
    const module = createRequire(import.meta.url).resolve('@xenpv/xenstored');
    const worker = new Worker(
      `const { workerData, parentPort } = require('node:worker_threads');
       const { RingTransport } = require(workerData.module);
       const transport = new RingTransport({ page: workerData.page });
       let left = 1000;
       transport.start({ close() {}, data() { if (--left > 0) transport.send(workerData.message); else { transport.close(); parentPort.postMessage('done'); } } });
       transport.send(workerData.message);`,
      {
        eval: true,
        workerData: { module, page, message: encodeMessage(XsOp.read, 1, 0, Buffer.from('/local/domain/5\0')) },
      },
    );
    const message = await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
    expect(message).toBe('done');
    await worker.terminate();
  });

  it('of a guest that never stops leaves time for everything else', async () => {
    daemon.attachRing(5, page);
    const worker = new Worker(
      `const { workerData } = require('node:worker_threads');
       const bytes = new Uint8Array(workerData.page.buffer, workerData.page.byteOffset, 4096);
       const words = new Int32Array(workerData.page.buffer, workerData.page.byteOffset, 1024);
       const one = workerData.message;
       for (;;) {
         Atomics.add(words, 1022, 1);
         Atomics.notify(words, 1022);
         Atomics.store(words, 514, Atomics.load(words, 515));
         const producer = Atomics.load(words, 513);
         if (((producer - Atomics.load(words, 512)) >>> 0) + one.length > 1024) continue;
         for (let i = 0; i < one.length; i++) bytes[(producer + i) & 1023] = one[i];
         Atomics.store(words, 513, producer + one.length);
       }`,
      { eval: true, workerData: { page, message: encodeMessage(XsOp.read, 1, 0, Buffer.from('/local/domain/5\0')) } },
    );
    for (let turns = 0; turns < 200; turns++) {
      expect(await tool.ask(XsOp.read, '/tool\0')).toBe('');
      await nextTurn();
    }
    await worker.terminate();
  });

  it('gives a guest that reads nothing no more than fits, and goes on when it reads', async () => {
    const server = daemon.attachRing(5, page, { notify: () => {} });
    for (let i = 0; i < 30; i++) await tool.ask(XsOp.write, `/local/domain/5/n${i}\0${'v'.repeat(200)}`);
    const guest = new RingTransport({ page, notify: () => server.kick() });
    let bytes = 0;
    for (let i = 0; i < 30; i++) guest.send(encodeMessage(XsOp.read, i, 0, Buffer.from(`n${i}\0`)));
    guest.start({ data: (chunk) => (bytes += chunk.length), close: () => {} });
    await tool.takeEvents();
    server.kick();
    await tool.takeEvents();
    expect(word(2060)[0]).toBe(1024);
    expect(bytes).toBe(0);
    while (bytes < 30 * 216) {
      guest.kick();
      await tool.takeEvents();
    }
    expect(bytes).toBe(30 * 216);
    await guest.close();
  });

  it.each([
    ['a producer beyond the ring', 2052, 1025, 2],
    ['a consumer beyond the producer', 2056, 5, 2],
  ])('ends at %s', async (_, offset, value, error) => {
    const server = daemon.attachRing(5, page, { notify: () => {} });
    word(offset)[0] = value;
    if (offset === 2056) {
      new Uint8Array(page.buffer, page.byteOffset).set(encodeMessage(XsOp.read, 1, 0, Buffer.from('/\0')));
      word(2052)[0] = 18;
    }
    server.kick();
    await tool.takeEvents();
    expect(word(2072)[0]).toBe(error);
    expect(await tool.ask(XsOp.read, '/tool\0')).toBe('');
  });

  it('ends at a message that claims too much, and tells the guest', async () => {
    daemon.attachRing(5, page);
    const guest = RawClient.onTransport(new RingTransport({ page }));
    expect(await guest.ask(XsOp.watch, 'x\0t\0')).toBe('OK\0');
    const header = encodeMessage(XsOp.read, 1, 0, Buffer.alloc(0));
    new DataView(header.buffer, header.byteOffset).setUint32(12, 5000, true);
    guest.sendRaw(header);
    await guest.untilClosed();
    expect(word(2072)[0]).toBe(3);
    expect(daemon.watchCount).toBe(0);
  });

  it('ends with its domain', async () => {
    daemon.attachRing(5, page);
    const guest = RawClient.onTransport(new RingTransport({ page }));
    await guest.ask(XsOp.watch, 'x\0t\0');
    daemon.releaseDomain(5);
    await guest.untilClosed();
    expect(daemon.watchCount).toBe(0);
  });

  it('survives whatever a guest puts into its page', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ minLength: 1, maxLength: 100 }),
        fc.array(fc.tuple(fc.constantFrom(2048, 2052, 2056, 2060, 2064, 2068, 2072), fc.integer()), { maxLength: 4 }),
        async (bytes, words) => {
          const server = daemon.attachRing(5, page, { notify: () => {} });
          new Uint8Array(page.buffer, page.byteOffset, 4096).set(bytes);
          word(2052)[0] += bytes.length;
          server.kick();
          for (const [offset, value] of words) word(offset)[0] = value;
          server.kick();
          expect(await tool.ask(XsOp.directory, '/tool\0')).toBe('xenstored\0');
          new Uint8Array(page.buffer, page.byteOffset, 4096).fill(0);
        },
      ),
      { numRuns: 500 },
    );
  });
});
