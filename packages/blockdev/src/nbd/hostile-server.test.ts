import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { mkdtempSync, rmSync } from 'node:fs';
import type { Socket } from 'node:net';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { NBD_SIMPLE_REPLY_BYTES, NbdCommand, NbdFlag } from '@xenpv/nbd';
import { afterAll, afterEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { type BlockImage, BlockOp } from '../block-image.js';
import { allocateMemory } from '../queue/buffer.js';
import {
  type HostileExport,
  type HostileRequest,
  HostileServer,
  type HostileServerOptions,
  optionReply,
  simpleReply,
  uint,
} from '../testing/hostile-server.js';
import { QueueDriver } from '../testing/queue-driver.js';
import { type OpenNbdImageOptions, openNbdImage } from './image.js';

vi.setConfig({ testTimeout: 30_000 });

const { EIO } = constants.errno;
const FLAGS = NbdFlag.hasFlags | NbdFlag.sendFlush;
const SIZE = 8 << 20;

const folder = mkdtempSync(join(tmpdir(), 'blockdev-'));
const closing: (() => Promise<void>)[] = [];
let sockets = 0;

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});
afterAll(() => rmSync(folder, { recursive: true }));

async function listen(options: Omit<HostileServerOptions, 'path'> = {}): Promise<HostileServer> {
  const server = await HostileServer.listen({ path: join(folder, `server-${sockets++}`), ...options });
  closing.push(() => server.close());
  return server;
}

async function open({ path }: HostileServer, options: OpenNbdImageOptions = { reconnect: 100 }): Promise<BlockImage> {
  const image = await openNbdImage(path, options);
  closing.push(() => image.close());
  return image;
}

/** The server goes before the image does, which so waits for no answer to a last flush. */
async function openWithoutEnd(server: HostileServer): Promise<BlockImage> {
  const image = await open(server, {});
  closing.push(() => server.close());
  return image;
}

/** `answer` gets each request. */
async function openFrom(answer: (socket: Socket, request: HostileRequest) => void): Promise<BlockImage> {
  return open(await listen({ onRequest: answer }));
}

function driverOf(image: BlockImage, bytes = 4096): QueueDriver {
  return new QueueDriver(image.createQueue({ depth: 4, memory: allocateMemory(bytes) }));
}

function read(image: BlockImage): Promise<number> {
  return driverOf(image).run(BlockOp.read, 0, 4096);
}

describe('G1: the errors of a server', () => {
  test.each([1, 5, 12, 22, 28, 75, 95])('%i, which the protocol has, is passed on', async (errno) => {
    const image = await openFrom((socket, { cookie }) => socket.write(simpleReply(cookie, errno)));
    expect(await read(image)).toBe(-errno);
  });

  // 130 would say that writes are gone; from 2^31 on a number would wrap into success.
  test.each([2, 11, 30, 104, 130, 4095, 4096, 2 ** 31, 2 ** 31 + 22, 2 ** 32 - 4096, 2 ** 32 - 1])(
    '%i, which it has not, is EIO',
    async (errno) => {
      const image = await openFrom((socket, { cookie }) => socket.write(simpleReply(cookie, errno)));
      expect(await read(image)).toBe(-EIO);
    },
  );

  test('that it shuts down is no error: what was asked waits for the next server', async () => {
    const ESHUTDOWN = 108;
    const server = await listen({
      onRequest: (socket, { cookie, length }, connection) =>
        socket.write(
          connection === 0 ? simpleReply(cookie, ESHUTDOWN) : simpleReply(cookie, 0, Buffer.alloc(length, 7)),
        ),
    });
    expect(await read(await open(server, {}))).toBe(4096);
    expect(server.clients).toHaveLength(2);
  });
});

test.each<[string, (cookie: Buffer) => Buffer]>([
  ['a reply to no request', () => simpleReply(uint(8, 77), 0)],
  [
    'a cookie that is ours in its lower half only',
    (cookie) => simpleReply(Buffer.concat([uint(4, 1), cookie.subarray(4)]), 0),
  ],
  ['a structured reply, which nobody asked for', (cookie) => simpleReply(cookie, 0, Buffer.alloc(0), 0x668e33ef)],
  ['noise', () => Buffer.alloc(4 * NBD_SIMPLE_REPLY_BYTES, 0xff)],
])('%s ends the connection, and the request after a while', async (_name, reply) => {
  const image = await openFrom((socket, { cookie }) => socket.write(reply(cookie)));
  expect(await read(image)).toBe(-EIO);
});

test('requests that fail because the server stays away leave nothing at the connection that has ended', async () => {
  const warnings: string[] = [];
  const warned = ({ message }: Error) => void warnings.push(message);
  process.on('warning', warned);
  onTestFinished(() => void process.off('warning', warned));
  const server = await listen();
  const image = await open(server, { reconnect: 0 });
  await server.close();
  const driver = driverOf(image);
  for (let i = 0; i < 20; i++) expect(await driver.run(BlockOp.read, 0, 4096)).toBe(-EIO);
  // Node tells of too many listeners at its next turn.
  await new Promise(setImmediate);
  expect(warnings).toEqual([]);
});

describe('G2: a write that is answered before it was read', () => {
  /** Answers the read that comes first and each write at once, and reads no more of the writes until it is let to. */
  async function hasty(
    writes: number,
  ): Promise<{ driver: QueueDriver; goOn: () => void; received: Buffer[]; read: Promise<number> }> {
    const received: Buffer[] = [];
    let goOn = () => {};
    let reading: Buffer = Buffer.alloc(0);
    const server = await listen({
      exportOf: () => ({ size: SIZE, flags: FLAGS }),
      onRequest: (socket, { command, cookie, length }) => {
        if (command === NbdCommand.read) {
          reading = simpleReply(cookie, 0, Buffer.alloc(length, 5));
          return;
        }
        if (command !== NbdCommand.write || received.length > 0) return;
        socket.pause();
        received.push(Buffer.alloc(0));
        // The cookies of the others follow this one's.
        for (let i = 0; i < writes; i++) socket.write(simpleReply(uint(8, cookie.readUInt32BE(4) + i)));
        socket.write(reading);
        goOn = () => {
          socket.on('data', (bytes) => received.push(bytes));
          socket.resume();
        };
      },
    });
    const image = await openWithoutEnd(server);
    const driver = driverOf(image, SIZE);
    const answered = driver.push(BlockOp.read, 0, 4096, [[0, SIZE - 4096, 4096]]);
    driver.queue.submit();
    return { driver, goOn: () => goOn(), received, read: answered };
  }

  test.each([1, 3])('is over only when its bytes have left: %i at once', async (count) => {
    const { driver, goOn, received, read: answered } = await hasty(count);
    const bytes = new Uint8Array(driver.queue.memory);
    const length = 2 << 20;
    let ended = 0;
    const writes = Array.from({ length: count }, async (_, i) => {
      bytes.fill(i + 1, i * length, (i + 1) * length);
      const result = await driver.push(BlockOp.write, i * length, length, [[0, i * length, length]]);
      // As the memory's next user would.
      bytes.fill(0xee, i * length, (i + 1) * length);
      ended++;
      return result;
    });
    driver.queue.submit();
    expect(await answered).toBe(4096);
    expect(ended).toBe(0);
    goOn();
    expect(await Promise.all(writes)).toEqual(writes.map(() => length));
    // Some was read before.
    await vi.waitFor(() => expect(Buffer.concat(received).length).toBeGreaterThan(count * length - (1 << 20)));
    expect(Buffer.concat(received).includes(0xee)).toBe(false);
  });

  test('is sent again when the connection ends before they have', async () => {
    let connections = 0;
    const server = await listen({
      exportOf: () => ({ size: SIZE, flags: FLAGS }),
      onRequest: (socket, { command, cookie }, connection) => {
        connections = connection + 1;
        if (command !== NbdCommand.write) return;
        if (connection > 0) {
          socket.write(simpleReply(cookie));
          return;
        }
        socket.pause();
        socket.write(simpleReply(cookie), () => socket.destroy());
      },
    });
    const driver = driverOf(await openWithoutEnd(server), SIZE);
    expect(await driver.run(BlockOp.write, 0, 4 << 20)).toBe(4 << 20);
    expect(connections).toBe(2);
  });

  test('is over once, though the answer comes twice', async () => {
    let first: Socket | undefined;
    const server = await listen({
      exportOf: () => ({ size: SIZE, flags: FLAGS }),
      onRequest: (socket, { command, cookie, length }) => {
        if (command === NbdCommand.read) socket.write(simpleReply(cookie, 0, Buffer.alloc(length, 5)));
        if (command !== NbdCommand.write || first) {
          if (command === NbdCommand.write) socket.write(simpleReply(cookie));
          return;
        }
        first = socket;
        socket.pause();
        socket.write(Buffer.concat([simpleReply(cookie), simpleReply(cookie)]), () => socket.resume());
      },
    });
    const driver = driverOf(await openWithoutEnd(server), SIZE);
    expect(await driver.run(BlockOp.write, 0, 4 << 20)).toBe(4 << 20);
    // QueueDriver throws at a second end.
    expect(await driver.run(BlockOp.read, 0, 4096)).toBe(4096);
  });
});

describe('an export that comes back as another one is not used', () => {
  const before: HostileExport = {
    size: 65536,
    flags: FLAGS | NbdFlag.sendFua | NbdFlag.sendTrim,
    blocks: [512, 4096, 1 << 20],
  };
  test.each<[string, Partial<HostileExport>, reason: RegExp]>([
    ['of a smaller size', { size: 32768 }, /smaller than before/],
    ['without flush', { flags: before.flags & ~NbdFlag.sendFlush }, /does not know flush any more/],
    ['without FUA', { flags: before.flags & ~NbdFlag.sendFua }, /does not know FUA any more/],
    ['without trim', { flags: before.flags & ~NbdFlag.sendTrim }, /does not know trim any more/],
    ['that takes no writes', { flags: before.flags | NbdFlag.readOnly }, /takes no writes any more/],
    ['with larger blocks', { blocks: [4096, 4096, 1 << 20] }, /has larger blocks than before/],
    ['that takes less at once', { blocks: [512, 4096, 4096] }, /takes less at once than before/],
  ])('%s, and that is told once, however often it is tried', async (_name, other, reason) => {
    const told: unknown[] = [];
    const hear = (message: unknown) => void told.push(message);
    subscribe('blockdev:nbd:unfit', hear);
    onTestFinished(() => void unsubscribe('blockdev:nbd:unfit', hear));
    const server = await listen({
      exportOf: (connection) => (connection === 0 ? before : { ...before, ...other }),
      onRequest: (socket, { cookie, length }, connection) =>
        connection === 0 ? socket.destroy() : socket.write(simpleReply(cookie, 0, Buffer.alloc(length))),
    });
    const image = await open(server);
    expect(await read(image)).toBe(-EIO);
    expect(image.size).toBe(65536);
    await vi.waitFor(() => expect(server.clients.length).toBeGreaterThan(3));
    expect(told).toEqual([
      { path: server.path, exportName: '', reason: expect.stringMatching(reason), inFlight: expect.any(Number) },
    ]);
  });

  test('and one that can do more is', async () => {
    const flags = before.flags | NbdFlag.sendWriteZeroes;
    const more = { flags, size: 131072, blocks: [1, 4096, 1 << 25] } as const;
    const server = await listen({
      exportOf: (connection) => (connection === 0 ? before : more),
      onRequest: (socket, { cookie, length }, connection) =>
        connection === 0 ? socket.destroy() : socket.write(simpleReply(cookie, 0, Buffer.alloc(length))),
    });
    expect(await read(await open(server))).toBe(4096);
  });
});

describe('G4: sizes that make no sense', () => {
  test.each<[string, HostileExport, string]>([
    ['an empty export', { size: 0, flags: FLAGS }, 'ERR_IMAGE_EMPTY'],
    ['less than a sector', { size: 511, flags: FLAGS }, 'ERR_IMAGE_UNALIGNED'],
    ['2^53 bytes', { size: 2n ** 53n, flags: FLAGS }, 'ERR_NBD'],
    ['2^63 bytes', { size: 2n ** 63n, flags: FLAGS }, 'ERR_NBD'],
    ['2^64 - 1 bytes', { size: 2n ** 64n - 1n, flags: FLAGS }, 'ERR_NBD'],
    ['blocks of 3 bytes', { size: SIZE, flags: FLAGS, blocks: [3, 4096, 65536] }, 'ERR_NBD'],
    ['blocks of 2 GiB', { size: SIZE, flags: FLAGS, blocks: [2 ** 31, 2 ** 31, 2 ** 31] }, 'ERR_NBD'],
    ['less than a sector at once', { size: SIZE, flags: FLAGS, blocks: [1, 1, 511] }, 'ERR_NBD'],
  ])('%s is refused', async (_name, found, code) => {
    const server = await listen({ exportOf: () => found });
    await expect(openNbdImage(server.path)).rejects.toMatchObject({ code });
  });

  test('a preferred size is no promise: the physical sector is a power of two between sector and page', async () => {
    for (const [preferred, physical] of [
      [513, 512],
      [3000, 2048],
      [2 ** 32 - 1, 4096],
    ]) {
      const found = { size: SIZE, flags: FLAGS, blocks: [512, preferred, 2 ** 32 - 1] } as const;
      const image = await open(await listen({ exportOf: () => found }));
      expect([image.sectorSize, image.physicalSectorSize]).toEqual([512, physical]);
    }
  });
});

describe('G3: a silent server', () => {
  const soon = { negotiation: 100, silence: 60, reconnect: 150 };

  test.each<[string, (socket: Socket) => void]>([
    ['that says nothing', () => {}],
    ['that greets and says no more', (socket) => socket.write(Buffer.from('NBDMAGICIHAVEOPT\0\x03'))],
    [
      'whose reply to an option does not end',
      (socket) => {
        socket.write(Buffer.from('NBDMAGICIHAVEOPT\0\x03'));
        socket.write(Buffer.concat([optionReply(3).subarray(0, 16), uint(4, 60_000)]));
        const drip = setInterval(() => socket.write('x'), 5);
        socket.on('close', () => clearInterval(drip));
      },
    ],
  ])('%s is given up while it is opened', async (_name, onClient) => {
    const server = await listen({ onClient });
    await expect(openNbdImage(server.path, soon)).rejects.toMatchObject({
      code: 'ERR_NBD',
      message: expect.stringMatching(/says nothing for 0.1 seconds/),
    });
  });

  test('whose information does not end is given up at once', async () => {
    const server = await listen({
      onClient: (socket) => {
        socket.write(Buffer.from('NBDMAGICIHAVEOPT\0\x03'));
        socket.write(Buffer.concat(Array.from({ length: 100 }, () => optionReply(3, uint(2, 900)))));
      },
    });
    await expect(openNbdImage(server.path)).rejects.toThrow('do not end');
  });

  test('is asked again on another connection, and has its answer taken there', async () => {
    const server = await listen({
      onRequest: (socket, { cookie, length }, connection) => {
        if (connection > 0) socket.write(simpleReply(cookie, 0, Buffer.alloc(length, 7)));
      },
    });
    const image = await open(server, { silence: 50 });
    expect(await read(image)).toBe(4096);
    expect(server.clients.length).toBeGreaterThan(1);
  });

  test('is none when this process stood still itself, and the answer lies in the socket', async () => {
    const server = await listen({
      onRequest: (socket, { cookie, length }) => {
        socket.write(simpleReply(cookie, 0, Buffer.alloc(length, 7)));
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500);
      },
    });
    const image = await open(server, { silence: 250 });
    expect(await read(image)).toBe(4096);
    expect(server.clients).toHaveLength(1);
  });

  test('that stays so fails what was asked, and soon what is asked later', async () => {
    const server = await listen();
    const image = await open(server, soon);
    expect(await read(image)).toBe(-EIO);
    expect(server.clients.length).toBeGreaterThan(1);
    expect(await read(image)).toBe(-EIO);
  });

  test('about one request fails that one, though it answers all others', async () => {
    const server = await listen({
      onRequest: (socket, { command, cookie, length }) => {
        if (command === NbdCommand.read) socket.write(simpleReply(cookie, 0, Buffer.alloc(length)));
      },
    });
    const image = await open(server, soon);
    const driver = driverOf(image);
    let flushed: number | undefined;
    const flush = driver.run(BlockOp.flush, 0, 0).then((result) => {
      flushed = result;
    });
    const reads = new Set<number>();
    while (flushed === undefined) reads.add(await driver.run(BlockOp.read, 0, 4096));
    await flush;
    expect(flushed).toBe(-EIO);
    expect(reads).toContain(4096);
  });

  test('may take its time when nothing was said of a limit', async () => {
    let answer = () => {};
    const server = await listen({
      onRequest: (socket, { cookie, length }) => {
        answer = () => socket.write(simpleReply(cookie, 0, Buffer.alloc(length)));
        setTimeout(() => answer(), 300);
      },
    });
    expect(await read(await open(server, {}))).toBe(4096);
    expect(server.clients).toHaveLength(1);
  });
});
