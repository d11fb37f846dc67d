import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { needs, working } from '@xenpv/test-support';
import { requireNativeAddon } from '@xenpv/xen-sys';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { attachImage } from '../../attach.js';
import { type BlockImage, BlockOp } from '../../block-image.js';
import { allocateMemory } from '../../queue/buffer.js';
import { ForgetfulServer } from '../../testing/forgetful-server.js';
import { QueueDriver } from '../../testing/queue-driver.js';
import { type OpenNbdImageOptions, openNbdImage } from '../image.js';
import { holdsUnflushed } from './log.js';

const EOWNERDEAD = 130;
const SECTOR = 512;
const DISK_BYTES = 1 << 20;
const addon = working('the addon of xen-sys', requireNativeAddon);

let folder: string;
let server: ForgetfulServer;
let images: BlockImage[];

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'unflushed-'));
  images = [];
  server = new ForgetfulServer(join(folder, 'nbd'), DISK_BYTES);
  await server.start();
});
afterEach(async () => {
  for (const image of images.reverse()) await image.close();
  server.crash();
  rmSync(folder, { recursive: true });
});

async function open(options: OpenNbdImageOptions = {}): Promise<BlockImage> {
  const image = await openNbdImage(server.socket, options);
  images.push(image);
  return image;
}

/** As another thread would. */
async function attach(image: BlockImage): Promise<BlockImage> {
  const other = await attachImage(structuredClone(image.share()?.data));
  images.push(other);
  return other;
}

class Client {
  readonly driver: QueueDriver;
  readonly bytes: Uint8Array;

  constructor(image: BlockImage) {
    this.driver = new QueueDriver(image.createQueue({ depth: 16, memory: allocateMemory(1 << 20) }));
    this.bytes = new Uint8Array(this.driver.queue.memory);
  }

  write(offset: number, length: number, value: number, op: BlockOp = BlockOp.write): Promise<number> {
    this.bytes.fill(value, offset, offset + length);
    return this.driver.run(op, offset, length, offset);
  }

  async read(offset: number, length: number): Promise<number[]> {
    expect(await this.driver.run(BlockOp.read, offset, length, offset)).toBe(length);
    return [...new Set(this.bytes.subarray(offset, offset + length))];
  }

  flush(): Promise<number> {
    return this.driver.run(BlockOp.flush, 0, 0);
  }
}

async function restart(): Promise<void> {
  server.crash();
  await server.start();
}

describe('writes that a server has acknowledged and not flushed', () => {
  it('are sent again when it died and forgot them, in their order, and a flush finds them', async () => {
    const client = new Client(await open());
    for (const value of [1, 2, 3]) expect(await client.write(0, 4096, value)).toBe(4096);
    expect(await client.write(SECTOR, SECTOR, 4)).toBe(SECTOR);
    await restart();
    expect(await client.read(0, SECTOR)).toEqual([3]);
    expect(await client.read(SECTOR, SECTOR)).toEqual([4]);
    expect(await client.flush()).toBe(0);
    expect([server.stable[0], server.stable[SECTOR], server.stable[2 * SECTOR]]).toEqual([3, 4, 3]);
  });

  it('are sent again however often it dies, and also when it dies while they are sent', async () => {
    const client = new Client(await open());
    for (let i = 0; i < 100; i++) expect(await client.write(i * 4096, 4096, i + 1)).toBe(4096);
    for (const most of [1, 50, 99]) {
      let left = most;
      server.onWrite = () => {
        if (left-- === 0) void restart();
      };
      await restart();
      expect(await client.read(99 * 4096, 4096)).toEqual([100]);
      expect(left).toBeLessThan(0);
    }
    server.onWrite = () => {};
    for (let i = 0; i < 100; i++) expect(await client.read(i * 4096, 4096)).toEqual([i + 1]);
  });

  it('are forgotten once a flush has covered them', async () => {
    const client = new Client(await open());
    await client.write(0, 4096, 1);
    expect(await client.flush()).toBe(0);
    const before = server.writes;
    await restart();
    expect(await client.read(0, 4096)).toEqual([1]);
    expect(server.writes).toBe(before);
  });

  it('of one connection are covered by the flush of another, and sent again before anything of another', async () => {
    const first = await open();
    const [one, other] = [new Client(first), new Client(await attach(first))];
    await one.write(0, 4096, 1);
    await other.write(0, 4096, 2);
    await one.write(SECTOR, SECTOR, 3);
    await restart();
    const newer = other.write(SECTOR, SECTOR, 4);
    expect(await newer).toBe(SECTOR);
    expect([await one.read(0, SECTOR), await one.read(SECTOR, SECTOR)]).toEqual([[2], [4]]);
    expect(await other.flush()).toBe(0);
    const before = server.writes;
    await restart();
    expect(await one.read(SECTOR, SECTOR)).toEqual([4]);
    expect(server.writes).toBe(before);
  });

  it('with zeroes and with force unit access keep their place among the others', async () => {
    const client = new Client(await open());
    await client.write(0, 8 * SECTOR, 1);
    await client.driver.run(BlockOp.writeZeroes, 0, 4 * SECTOR);
    await client.write(SECTOR, SECTOR, 5, BlockOp.writeFua);
    await restart();
    const found = [];
    for (let i = 0; i < 5; i++) found.push(...(await client.read(i * SECTOR, SECTOR)));
    expect(found).toEqual([0, 5, 0, 0, 1]);
  });

  it('are flushed when there is little room for them, and none is acknowledged without room', async () => {
    const client = new Client(await open({ unflushed: { bytes: 65536 } }));
    for (let i = 0; i < 64; i++) expect(await client.write(i * 8192, 8192, i + 1)).toBe(8192);
    expect(server.flushes).toBeGreaterThan(8);
    await restart();
    for (let i = 0; i < 64; i++) expect(await client.read(i * 8192, 8192)).toEqual([i + 1]);
  });

  it('that are larger than all the room are acknowledged when they are flushed', async () => {
    const client = new Client(await open({ unflushed: { bytes: 65536 } }));
    expect(await client.write(0, 1 << 19, 7)).toBe(1 << 19);
    await restart();
    expect(await client.read(0, 1 << 19)).toEqual([7]);
  });

  it('that the server refuses to take again fail the next flush of any connection, once', async () => {
    const first = await open();
    const [one, other] = [new Client(first), new Client(await attach(first))];
    await one.write(0, 4096, 1);
    server.onWrite = () => Promise.reject(Object.assign(new Error('full'), { code: 'ENOSPC' }));
    await restart();
    await one.read(0, 512);
    server.onWrite = () => {};
    expect(await other.flush()).toBe(-EOWNERDEAD);
    expect([await one.flush(), await other.flush()]).toEqual([0, 0]);
  });
});

it('another thread gets the image though its server is away just then', async () => {
  const image = await open();
  for (let times = 0; times < 2; times++) {
    server.crash();
    const attaching = attach(image);
    let failed = false;
    attaching.catch(() => {
      failed = true;
    });
    for (let turns = 0; turns < 500; turns++) await nextTurn();
    expect(failed).toBe(false);
    await server.start();
    const client = new Client(await attaching);
    expect(await client.write(0, 4096, 5)).toBe(4096);
  }
});

describe('a queue that is given up', () => {
  it('waits no more for a server that is away, and others of the image wait on', async () => {
    const image = await open();
    const [client, next] = [new Client(image), new Client(image)];
    await client.write(0, 4096, 1);
    server.crash();
    const write = client.write(4096, 4096, 2);
    client.driver.queue.giveUp?.();
    expect(await write).toBeLessThan(0);
    await client.driver.queue.close();
    const read = next.read(0, 4096);
    await server.start();
    expect(await read).toEqual([1]);
  });
});

needs(addon).describe('in a file', () => {
  const path = () => join(folder, 'unflushed');

  /** What is told of writes that are dropped, while the test runs. */
  function told(): unknown[] {
    const events: unknown[] = [];
    const listener = (event: unknown) => void events.push(event);
    subscribe('blockdev:nbd:dropped', listener);
    onTestFinished(() => void unsubscribe('blockdev:nbd:dropped', listener));
    return events;
  }

  /** What a killed process leaves. */
  async function left(): Promise<Buffer> {
    const client = new Client(await open({ unflushed: { path: path() } }));
    for (const value of [1, 2]) await client.write(0, 4096, value);
    const bytes = readFileSync(path());
    await images.pop()?.close();
    return bytes;
  }

  it('they are sent again by the next process, whoever else died', async () => {
    const bytes = await left();
    server.crash();
    server.stable.fill(0);
    server.crash();
    await server.start();
    writeFileSync(path(), bytes, { mode: 0o600 });
    const client = new Client(await open({ unflushed: { path: path(), adopt: true } }));
    expect(await client.read(0, 4096)).toEqual([2]);
    expect(await client.flush()).toBe(0);
  });

  it('they are not, where that process starts with another disk', async () => {
    writeFileSync(path(), await left(), { mode: 0o600 });
    server.stable.fill(9);
    await restart();
    const client = new Client(await open({ unflushed: { path: path() } }));
    expect([await client.read(0, 4096), await client.flush()]).toEqual([[9], 0]);
  });

  it.each<[string, number, number]>([
    ['was not changed since', -1000, 2],
    ['somebody else has changed since', 3_600_000, 9],
  ])('they are sent for the next guest to an image that %s, and no flush fails', async (_, later, found) => {
    const bytes = await left();
    server.stable.fill(9);
    await restart();
    for (const content of [bytes, Buffer.alloc(5000)]) {
      writeFileSync(path(), content, { mode: 0o600 });
      const changedAt = Date.now() + later;
      const client = new Client(await open({ unflushed: { path: path(), adopt: true, changedAt } }));
      expect([await client.read(0, 4096), await client.flush()]).toEqual([[found], 0]);
      await images.pop()?.close();
    }
  });

  it('they are sent by each process that follows, though its server changes the image', async () => {
    const bytes = await left();
    server.stable.fill(9);
    // Each process that sends them has the server change the image.
    for (let lives = 0; lives < 3; lives++) {
      await restart();
      writeFileSync(path(), lives === 0 ? bytes : readFileSync(path()), { mode: 0o600 });
      expect(holdsUnflushed(path())).toBe(true);
      const changedAt = Date.now();
      const client = new Client(await open({ unflushed: { path: path(), adopt: true, changedAt } }));
      expect(await client.read(0, 4096)).toEqual([2]);
      server.crash();
      await images.pop()?.close();
      await server.start();
    }
    expect([holdsUnflushed(path()), holdsUnflushed(`${path()}-none`)]).toEqual([true, false]);
  });

  const withWord = (at: number, word: number) => (bytes: Buffer) => {
    bytes.writeInt32LE(word, 4 * at);
    return bytes;
  };

  const ANOTHER = { bytes: 2 * (4096 + 64), reason: 'the path is another image now' };
  const DAMAGED = { bytes: undefined, reason: 'the file is damaged' };

  it.each<[string, (bytes: Buffer) => Buffer, number, object]>([
    ['of another image', (bytes) => bytes, 7, ANOTHER],
    ['with an impossible end', withWord(5, 0x7ffffff), 0, DAMAGED],
    ['of another version', withWord(0, 1), 0, DAMAGED],
    ['cut off', (bytes) => bytes.subarray(0, 5000), 0, DAMAGED],
  ])('one %s is not sent, which is told, and fails the next flush once', async (_, spoil, identity, why) => {
    const events = told();
    writeFileSync(path(), spoil(await left()), { mode: 0o600 });
    server.stable.fill(9);
    await restart();
    const client = new Client(await open({ unflushed: { path: path(), adopt: true, identity } }));
    expect(events).toEqual([{ path: path(), socket: server.socket, ...why }]);
    expect(await client.read(0, 4096)).toEqual([9]);
    expect([await client.flush(), await client.flush()]).toEqual([-EOWNERDEAD, 0]);
  });

  it('one of another image without a write in it is nobody’s loss', async () => {
    const events = told();
    const client = new Client(await open({ unflushed: { path: path() } }));
    await client.write(0, 4096, 1);
    await client.flush();
    const bytes = readFileSync(path());
    await images.pop()?.close();
    writeFileSync(path(), bytes, { mode: 0o600 });
    const next = new Client(await open({ unflushed: { path: path(), adopt: true, identity: 7 } }));
    expect([await next.flush(), events]).toEqual([0, []]);
  });

  it('they are refused by the server of the next process: that is told, and the next flush of any connection fails, once', async () => {
    const events = told();
    writeFileSync(path(), await left(), { mode: 0o600 });
    server.onWrite = () => Promise.reject(Object.assign(new Error('full'), { code: 'ENOSPC' }));
    await restart();
    const first = await open({ unflushed: { path: path(), adopt: true } });
    const reason = 'the server refuses them: ENOSPC';
    expect(events).toEqual([{ path: path(), socket: server.socket, bytes: 8192, reason }]);
    const [one, other] = [new Client(first), new Client(await attach(first))];
    expect([await other.flush(), await one.flush(), await other.flush()]).toEqual([-EOWNERDEAD, 0, 0]);
    expect(events).toHaveLength(1);
  });

  it('what was not noted to its end is left out, and what follows it is not', async () => {
    const client = new Client(await open({ unflushed: { path: path() } }));
    for (const value of [1, 2, 3]) await client.write((value - 1) * 4096, 4096, value);
    const bytes = readFileSync(path());
    // The first word of the second entry: the first one has 65 units of 64 bytes.
    bytes.writeInt32LE(0, 1024 + 65 * 64);
    await images.pop()?.close();
    server.stable.fill(0);
    await restart();
    writeFileSync(path(), bytes, { mode: 0o600 });
    const next = new Client(await open({ unflushed: { path: path(), adopt: true } }));
    const found = [await next.read(0, 4096), await next.read(4096, 4096), await next.read(8192, 4096)];
    expect(found).toEqual([[1], [0], [3]]);
  });

  it('nothing is left when the image was closed with its server there, and all when it was not', async () => {
    const client = new Client(await open({ unflushed: { path: path() } }));
    await client.write(0, 4096, 1);
    await images.pop()?.close();
    expect([existsSync(path()), server.stable[0]]).toEqual([false, 1]);
    const another = new Client(await open({ unflushed: { path: path() } }));
    await another.write(0, 4096, 2);
    server.crash();
    await images.pop()?.close();
    await server.start();
    const next = new Client(await open({ unflushed: { path: path(), adopt: true } }));
    expect(await next.read(0, 4096)).toEqual([2]);
  });

  it('a file that cannot be used is told of, and the server may die all the same', async () => {
    const client = new Client(await open({ unflushed: { path: join(folder, 'none', 'unflushed') } }));
    await client.write(0, 4096, 1);
    await restart();
    expect(await client.read(0, 4096)).toEqual([1]);
  });
});

describe('at random', () => {
  const SEEDS = Number(process.env.UNFLUSHED_SEEDS ?? 6);
  const SECTORS = 64;

  function randomFrom(seed: number): (below: number) => number {
    let state = seed * 2654435761;
    return (below) => {
      state = (Math.imul(state, 1664525) + 1013904223) | 0;
      return Math.floor(((state >>> 0) / 2 ** 32) * below);
    };
  }

  it.each(Array.from({ length: SEEDS }, (_, i) => i + 1))('nothing acknowledged is lost (seed %i)', async (seed) => {
    const random = randomFrom(seed);
    const first = await open({ unflushed: { bytes: 65536 } });
    const clients = [first, await attach(first), await attach(first)].map((image) => new Client(image));
    const acknowledged = new Array<number>(SECTORS).fill(0);
    const busy = new Set<number>();
    let left = 600;
    let value = 0;
    const use = async (client: Client) => {
      while (left-- > 0) {
        const sector = random(SECTORS);
        if (busy.has(sector)) {
          await new Promise((resolve) => setImmediate(resolve));
          continue;
        }
        if (random(100) === 0) {
          server.crash();
          setTimeout(() => void server.start(), random(3));
          await new Promise((resolve) => setTimeout(resolve, 4));
          continue;
        }
        busy.add(sector);
        const kind = random(10);
        if (kind < 6) {
          const next = 1 + (value++ % 255);
          const op = kind === 0 ? BlockOp.writeFua : BlockOp.write;
          expect(await client.write(sector * SECTOR, SECTOR, next, op)).toBe(SECTOR);
          acknowledged[sector] = next;
        } else if (kind < 9) expect(await client.read(sector * SECTOR, SECTOR)).toEqual([acknowledged[sector]]);
        else expect(await client.flush()).toBe(0);
        busy.delete(sector);
      }
    };
    await Promise.all(clients.flatMap((client) => [use(client), use(client)]));
    await restart();
    expect(await clients[seed % 3].flush()).toBe(0);
    expect(acknowledged.map((_, i) => server.stable[i * SECTOR])).toEqual(acknowledged);
  });
});
