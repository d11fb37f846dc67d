import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { needs, runTool } from '@xenpv/test-support';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { NbdContext, NbdDisk } from '../disk.js';
import { encodeContextRequest } from '../protocol/contexts.js';
import type { NbdExtent } from '../protocol/requests.js';
import { SocketReader } from '../reader.js';
import { NbdServer, type NbdServerOptions } from './server.js';

const MIB = 1024 * 1024;

class MemoryDisk implements NbdDisk {
  readonly bytes: Buffer;
  readonly blockSize = 512;
  readonly readOnly: boolean;
  readonly calls = { read: 0, write: 0, flush: 0, discard: 0 };
  mostAtOnce = 0;
  #now = 0;

  constructor(bytes: Buffer, options: { readOnly?: boolean } = {}) {
    this.bytes = bytes;
    this.readOnly = options.readOnly ?? false;
  }

  get size(): number {
    return this.bytes.length;
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    this.calls.read++;
    this.mostAtOnce = Math.max(this.mostAtOnce, ++this.#now);
    await new Promise((resolve) => setImmediate(resolve));
    this.#now--;
    return Buffer.from(this.bytes.subarray(offset, offset + length));
  }

  async write(offset: number, data: Uint8Array): Promise<void> {
    this.calls.write++;
    this.bytes.set(data, offset);
  }

  async flush(): Promise<void> {
    this.calls.flush++;
  }

  async discard(offset: number, length: number): Promise<void> {
    this.calls.discard++;
    this.bytes.fill(0, offset, offset + length);
  }
}

let directory: string;
let path: string;
let server: NbdServer | undefined;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'nbd-test-'));
  path = join(directory, 'nbd');
});

afterEach(async () => {
  await server?.close();
  server = undefined;
  rmSync(directory, { recursive: true });
});

/** A server that listens on `path`. */
async function serve(exports: Record<string, NbdDisk>): Promise<NbdServer> {
  const serving = new NbdServer(exports);
  serving.listener.listen(path);
  await once(serving.listener, 'listening');
  return serving;
}

const uri = (name = '') => `nbd+unix:///${name}?socket=${path}`;
const sha256 = (data: Uint8Array) => createHash('sha256').update(data).digest('hex');

/** A client of a few lines, for what the real ones never send. */
class RawNbdClient {
  readonly socket: Socket;
  readonly reader: SocketReader;

  constructor() {
    this.socket = createConnection(path);
    this.reader = new SocketReader(this.socket);
  }

  async enter(name = ''): Promise<Buffer> {
    await this.reader.read(18);
    this.socket.write(Buffer.from([0, 0, 0, 3]));
    this.option(1, Buffer.from(name));
    return this.reader.read(10);
  }

  option(option: number, data: Buffer): void {
    const header = Buffer.alloc(16);
    header.write('IHAVEOPT', 'latin1');
    header.writeUInt32BE(option, 8);
    header.writeUInt32BE(data.length, 12);
    this.socket.write(Buffer.concat([header, data]));
  }

  async optionReply(): Promise<{ type: number; data: Buffer }> {
    const header = await this.reader.read(20);
    return { type: header.readUInt32BE(12), data: await this.reader.read(header.readUInt32BE(16)) };
  }

  request(command: number, offset: number, length: number, options: { flags?: number; data?: Buffer } = {}): void {
    const header = Buffer.alloc(28);
    header.writeUInt32BE(0x25609513, 0);
    header.writeUInt16BE(options.flags ?? 0, 4);
    header.writeUInt16BE(command, 6);
    header.writeBigUInt64BE(0xfeedn, 8);
    header.writeBigUInt64BE(BigInt(offset), 16);
    header.writeUInt32BE(length, 24);
    this.socket.write(header);
    if (options.data) this.socket.write(options.data);
  }

  async error(): Promise<number> {
    const reply = await this.reader.read(16);
    expect(reply.readUInt32BE(0)).toBe(0x67446698);
    expect(reply.readBigUInt64BE(8)).toBe(0xfeedn);
    return reply.readUInt32BE(4);
  }
}

/** Resolves when many turns of the event loop, which does all the server's work, have not changed the value. */
async function settled(value: () => number): Promise<void> {
  let last = value();
  for (let unchanged = 0; unchanged < 200; unchanged++) {
    await new Promise((resolve) => setImmediate(resolve));
    if (value() === last) continue;
    last = value();
    unchanged = 0;
  }
}

describe('requests', () => {
  const EINVAL = 22;
  const ENOSPC = 28;
  const EPERM = 1;

  it('answers bad ones with an error and goes on', async () => {
    const disk = new MemoryDisk(Buffer.alloc(MIB));
    server = await serve({ disk });
    const client = new RawNbdClient();
    const info = await client.enter();
    expect(Number(info.readBigUInt64BE(0))).toBe(MIB);
    const bad: [number, number, number, { flags?: number; data?: Buffer }, number][] = [
      [0, 1, 512, {}, EINVAL], // unaligned offset
      [0, 0, 511, {}, EINVAL],
      [0, 0, 0, {}, EINVAL],
      [0, MIB, 512, {}, EINVAL],
      [0, 2 ** 52, 512, {}, EINVAL],
      [0, 0, 33 * MIB, {}, EINVAL],
      [0, 0, 512, { flags: 4 }, EINVAL], // DF without structured replies
      [1, 0, 100, { data: Buffer.alloc(100) }, EINVAL],
      [1, MIB, 512, { data: Buffer.alloc(512) }, ENOSPC],
      [1, 0, 33 * MIB, { data: Buffer.alloc(33 * MIB) }, EINVAL],
      [1, 0, 512, { flags: 0x80, data: Buffer.alloc(512) }, EINVAL],
      [4, MIB - 512, 1024, {}, ENOSPC],
      [5, 0, 512, {}, EINVAL], // CACHE is not offered
      [99, 0, 0, {}, EINVAL],
    ];
    for (const [command, offset, length, options, error] of bad) {
      client.request(command, offset, length, options);
      expect(await client.error(), `command ${command} at ${offset}+${length}`).toBe(error);
    }
    expect(disk.calls).toEqual({ read: 0, write: 0, flush: 0, discard: 0 });
    client.request(1, 512, 512, { flags: 1, data: Buffer.alloc(512, 7) });
    expect(await client.error()).toBe(0);
    client.request(0, 512, 512);
    expect(await client.error()).toBe(0);
    expect(await client.reader.read(512)).toEqual(Buffer.alloc(512, 7));
    expect(disk.calls.flush).toBe(1);
    client.socket.destroy();
  });

  it('refuses writes to a read-only export', async () => {
    server = await serve({ disk: new MemoryDisk(Buffer.alloc(MIB), { readOnly: true }) });
    const client = new RawNbdClient();
    const info = await client.enter();
    expect(info.readUInt16BE(8) & 2).toBe(2);
    client.request(1, 0, 512, { data: Buffer.alloc(512) });
    expect(await client.error()).toBe(EPERM);
    client.request(6, 0, 512);
    expect(await client.error()).toBe(EPERM);
    client.socket.destroy();
  });

  it('gives the client the errno of the disk', async () => {
    const disk = new MemoryDisk(Buffer.alloc(MIB));
    disk.write = () => Promise.reject(Object.assign(new Error('full'), { code: 'ENOSPC' }));
    disk.read = () => Promise.reject(new Error('broken'));
    server = await serve({ disk });
    const client = new RawNbdClient();
    await client.enter();
    client.request(1, 0, 512, { data: Buffer.alloc(512) });
    expect(await client.error()).toBe(ENOSPC);
    client.request(0, 0, 512);
    expect(await client.error()).toBe(5);
    client.socket.destroy();
  });

  it('carries out pipelined requests side by side', async () => {
    const disk = new MemoryDisk(randomBytes(MIB));
    server = await serve({ disk });
    const client = new RawNbdClient();
    await client.enter();
    for (let i = 0; i < 300; i++) client.request(0, i * 512, 512);
    for (let i = 0; i < 300; i++) {
      expect(await client.error()).toBe(0);
      await client.reader.read(512);
    }
    expect(disk.mostAtOnce).toBeGreaterThan(50);
    expect(disk.mostAtOnce).toBeLessThanOrEqual(128);
    client.socket.destroy();
  });

  it('does not read ahead of a client that takes no answers', async () => {
    const disk = new MemoryDisk(Buffer.alloc(4 * MIB));
    server = await serve({ disk });
    const client = new RawNbdClient();
    await client.enter();
    client.socket.pause();
    for (let i = 0; i < 200; i++) client.request(0, 0, 4 * MIB);
    await expect.poll(() => disk.calls.read).toBeGreaterThan(4);
    await settled(() => disk.calls.read);
    expect(disk.calls.read).toBeLessThan(60);
    client.socket.destroy();
  });

  it.each([
    ['options', 2000, (client: RawNbdClient) => client.option(3, Buffer.alloc(0))],
    ['requests that are refused', 60_000, (client: RawNbdClient) => client.request(99, 0, 512)],
  ])('does not keep its answers to %s for a client that takes none', async (what, count, ask) => {
    const names = Array.from({ length: 50 }, (_, i) => [`disk-${i}`, new MemoryDisk(Buffer.alloc(512))]);
    server = await serve(Object.fromEntries(names));
    const connected = once(server.listener, 'connection') as Promise<[Socket]>;
    const client = new RawNbdClient();
    const [socket] = await connected;
    if (what === 'options') {
      await client.reader.read(18);
      client.socket.write(Buffer.from([0, 0, 0, 3]));
    } else {
      await client.enter();
    }
    client.socket.pause();
    client.socket.cork();
    for (let i = 0; i < count; i++) ask(client);
    client.socket.uncork();
    let most = 0;
    await settled(() => {
      most = Math.max(most, socket.writableLength);
      return socket.bytesRead;
    });
    expect(most).toBeGreaterThan(0);
    expect(most).toBeLessThan(MIB / 2);
    client.socket.destroy();
  });

  it('ends a connection that talks nonsense, and serves the next', async () => {
    server = await serve({ disk: new MemoryDisk(Buffer.alloc(MIB)) });
    for (const nonsense of [Buffer.alloc(64, 0xff), Buffer.from('GET / HTTP/1.1\r\n\r\n')]) {
      const client = new RawNbdClient();
      await client.reader.read(18);
      client.socket.write(nonsense);
      await expect(client.reader.read(1)).rejects.toThrow('ended');
    }
    const client = new RawNbdClient();
    await client.enter();
    client.request(0, 0, 512);
    expect(await client.error()).toBe(0);
    client.socket.destroy();
  });

  it('refuses unknown options and exports, and goes on negotiating', async () => {
    server = await serve({ disk: new MemoryDisk(Buffer.alloc(MIB)) });
    const client = new RawNbdClient();
    await client.reader.read(18);
    client.socket.write(Buffer.from([0, 0, 0, 3]));
    client.option(5, Buffer.alloc(0)); // STARTTLS
    expect((await client.optionReply()).type).toBe(0x80000001);
    client.option(7, Buffer.from([0, 0, 0, 9, 0, 0]));
    expect((await client.optionReply()).type).toBe(0x80000003);
    client.option(7, Buffer.concat([Buffer.from([0, 0, 0, 2]), Buffer.from('no'), Buffer.from([0, 0])]));
    expect((await client.optionReply()).type).toBe(0x80000006);
    client.option(3, Buffer.alloc(9000));
    expect((await client.optionReply()).type).toBe(0x80000009);
    client.option(2, Buffer.alloc(0));
    expect((await client.optionReply()).type).toBe(1);
    await expect(client.reader.read(1)).rejects.toThrow('ended');
  });
});

/** A disk that tells of itself: its first mebibyte and its last have data. */
class SparseDisk extends MemoryDisk {
  readonly asked: [offset: number, length: number][] = [];
  /** Of every context. */
  told: readonly NbdExtent[] | undefined;
  readonly contexts: NbdContext[] = ['base:allocation', 'qemu:dirty-bitmap:a', 'qemu:dirty-bitmap:b'].map((name) => ({
    name,
    status: async (offset, length) => {
      this.asked.push([offset, length]);
      if (this.told) return this.told;
      const [begin, end] = [MIB, this.size - MIB];
      const parts: NbdExtent[] = [
        { length: begin - offset, flags: 0 },
        { length: end - Math.max(begin, offset), flags: 3 },
        { length: this.size - Math.max(end, offset), flags: 0 },
      ];
      return parts.filter(({ length: bytes }) => bytes > 0);
    },
  }));
}

describe('block status', () => {
  const [LIST, SET, STRUCTURED, GO] = [9, 10, 8, 7];
  const [ACK, CONTEXT, INVALID, UNKNOWN, TOO_BIG] = [1, 4, 0x80000003, 0x80000006, 0x80000009];
  const request = (...queries: string[]) => encodeContextRequest({ name: 'disk', queries });

  async function negotiating(): Promise<RawNbdClient> {
    const client = new RawNbdClient();
    await client.reader.read(18);
    client.socket.write(Buffer.from([0, 0, 0, 3]));
    return client;
  }

  /** Types of the replies up to the last one, and the contexts that they name. */
  async function answers(client: RawNbdClient, option: number, data: Buffer): Promise<(number | string)[]> {
    client.option(option, data);
    const all: (number | string)[] = [];
    for (;;) {
      const { type, data: said } = await client.optionReply();
      if (type === CONTEXT) all.push(`${said.readUInt32BE(0)} ${said.toString('utf8', 4)}`);
      else if (type === ACK || type >= 2 ** 31) return [...all, type];
    }
  }

  async function go(client: RawNbdClient, name = 'disk'): Promise<void> {
    const length = Buffer.from([0, 0, 0, name.length]);
    await answers(client, GO, Buffer.concat([length, Buffer.from(name), Buffer.from([0, 0])]));
  }

  /** The chunks of one answer: context and ranges, or an errno. */
  async function status(client: RawNbdClient, offset: number, length: number, flags = 0): Promise<number[][]> {
    client.request(7, offset, length, { flags });
    const chunks: number[][] = [];
    for (let isLast = false; !isLast; ) {
      const header = await client.reader.read(20);
      isLast = header.readUInt16BE(4) === 1;
      const payload = await client.reader.read(header.readUInt32BE(16));
      const type = header.readUInt16BE(6);
      expect([5, 0x8001]).toContain(type);
      const words = type === 5 ? payload.length / 4 : 1;
      chunks.push(Array.from({ length: words }, (_, i) => payload.readUInt32BE(4 * i)));
    }
    return chunks;
  }

  it('is of contexts that a client chooses, after structured replies, for the export that it enters', async () => {
    const disk = new SparseDisk(Buffer.alloc(8 * MIB));
    server = await serve({ disk, other: new SparseDisk(Buffer.alloc(MIB)) });
    const client = await negotiating();
    expect(await answers(client, LIST, request())).toEqual([INVALID]);
    expect(await answers(client, SET, request('base:allocation'))).toEqual([INVALID]);
    await answers(client, STRUCTURED, Buffer.alloc(0));
    const [base, a, b] = ['0 base:allocation', '0 qemu:dirty-bitmap:a', '0 qemu:dirty-bitmap:b'];
    expect(await answers(client, LIST, request())).toEqual([base, a, b, ACK]);
    expect(await answers(client, LIST, request('base:'))).toEqual([base, ACK]);
    expect(await answers(client, LIST, request('qemu:dirty-bitmap:'))).toEqual([a, b, ACK]);
    expect(await answers(client, LIST, request('', 'x:', 'base', 'base:allocation'))).toEqual([base, ACK]);
    expect(await answers(client, SET, request('base:', '', 'x:y'))).toEqual([ACK]);
    expect(await answers(client, SET, Buffer.from([0, 0, 0, 9, 0, 0, 0, 0]))).toEqual([INVALID]);
    expect(await answers(client, SET, Buffer.concat([request('x:y'), Buffer.alloc(1)]))).toEqual([INVALID]);
    expect(await answers(client, SET, request('x'.repeat(5000)))).toEqual([INVALID]);
    expect(await answers(client, SET, request('x'.repeat(4000), 'x'.repeat(4000), 'x'.repeat(4000)))).toEqual([
      TOO_BIG,
    ]);
    const unknown = encodeContextRequest({ name: 'none', queries: ['base:allocation'] });
    expect(await answers(client, SET, unknown)).toEqual([UNKNOWN]);
    const chosen = request('qemu:dirty-bitmap:b', 'base:allocation', 'base:allocation', 'x:y');
    expect(await answers(client, SET, chosen)).toEqual(['0 base:allocation', '1 qemu:dirty-bitmap:b', ACK]);
    await go(client);
    const ranges = [MIB, 0, 6 * MIB, 3, MIB, 0];
    expect(await status(client, 0, 8 * MIB)).toEqual([
      [0, ...ranges],
      [1, ...ranges],
    ]);
    const [one] = await status(client, MIB - 512, MIB, 8);
    expect(one).toEqual([0, 512, 0]);
    client.socket.destroy();
  });

  it.each<[what: string, choose: (client: RawNbdClient) => Promise<unknown>]>([
    ['has chosen none', async () => {}],
    [
      'has chosen for another export',
      (client) => answers(client, SET, encodeContextRequest({ name: 'other', queries: ['base:allocation'] })),
    ],
    [
      'has chosen, and then malformed ones',
      async (client) => {
        await answers(client, SET, request('base:allocation'));
        await answers(client, SET, Buffer.alloc(3));
      },
    ],
  ])('is refused to a client that %s', async (_what, choose) => {
    const disk = new SparseDisk(Buffer.alloc(8 * MIB));
    server = await serve({ disk, other: new SparseDisk(Buffer.alloc(MIB)) });
    const client = await negotiating();
    await answers(client, STRUCTURED, Buffer.alloc(0));
    await choose(client);
    await go(client);
    expect(await status(client, 0, 512)).toEqual([[22]]);
    expect(disk.asked).toEqual([]);
    client.socket.destroy();
  });

  it('is of ranges within the disk, and what its disk says is made fit', async () => {
    const disk = new SparseDisk(Buffer.alloc(8 * MIB));
    server = await serve({ disk });
    const client = await negotiating();
    await answers(client, STRUCTURED, Buffer.alloc(0));
    await answers(client, SET, request('base:allocation'));
    await go(client);
    for (const [offset, length, flags] of [
      [0, 0],
      [8 * MIB, 512],
      [8 * MIB - 512, 1024],
      [1, 512],
      [0, 511],
      [0, 512, 1],
    ]) {
      expect(await status(client, offset, length, flags)).toEqual([[22]]);
    }
    expect(disk.asked).toEqual([]);
    const flagsOf = (length: number, flags: number) => ({ length, flags });
    disk.told = [flagsOf(0, 3), flagsOf(512, 1), flagsOf(512, 1), flagsOf(MIB, 0)];
    expect(await status(client, 0, 2048)).toEqual([[0, 1024, 1, 1024, 0]]);
    disk.told = Array.from({ length: 5000 }, (_, i) => flagsOf(512, i % 2));
    expect((await status(client, 0, 4 * MIB))[0]).toHaveLength(1 + 2 * 1024);
    disk.told = [];
    expect(await status(client, 0, 512)).toEqual([[5]]);
    client.socket.destroy();
  });

  needs('nbdinfo', 'nbdcopy', 'qemu-img').it(
    'is what nbdinfo and qemu-img show, and nbdcopy reads data only',
    async () => {
      const disk = new SparseDisk(Buffer.alloc(64 * MIB));
      randomBytes(MIB).copy(disk.bytes);
      server = await serve({ disk });
      const { stdout } = await runTool('nbdinfo', ['--map', '--json', uri()]);
      const maps = (JSON.parse(stdout) as { offset: number; type: number }[]).map(({ offset, type }) => [offset, type]);
      expect(maps).toEqual([
        [0, 0],
        [MIB, 3],
        [63 * MIB, 0],
      ]);
      const map = await runTool('qemu-img', ['map', '--output=json', '-f', 'raw', uri()]);
      expect(JSON.parse(map.stdout).map(({ zero }: { zero: boolean }) => zero)).toEqual([false, true, false]);
      let bytes = 0;
      const read = disk.read.bind(disk);
      disk.read = (offset, length) => {
        bytes += length;
        return read(offset, length);
      };
      const file = join(directory, 'out');
      expect((await runTool('nbdcopy', [uri(), file])).stderr).toBe('');
      expect(sha256(readFileSync(file))).toBe(sha256(disk.bytes));
      expect(bytes).toBe(2 * MIB);
    },
  );
});

describe('nbdinfo', () => {
  needs('nbdinfo').it('sees the exports and what they offer', async () => {
    server = await serve({
      xvda: new MemoryDisk(Buffer.alloc(4 * MIB)),
      xvdb: new MemoryDisk(Buffer.alloc(8 * MIB), { readOnly: true }),
    });
    const listed = await runTool('nbdinfo', ['--list', '--json', '--no-content', uri()]);
    expect(listed.stderr).toBe('');
    const exports = JSON.parse(listed.stdout).exports;
    expect(exports).toMatchObject([
      {
        'export-name': 'xvda',
        'export-size': 4 * MIB,
        is_read_only: false,
        can_fua: true,
        can_trim: true,
        can_zero: true,
      },
      {
        'export-name': 'xvdb',
        'export-size': 8 * MIB,
        is_read_only: true,
        can_multi_conn: true,
        block_size_minimum: 512,
      },
    ]);
  });
});

describe('nbdcopy', () => {
  needs('nbdcopy').it('copies out and in over several connections', async () => {
    const disk = new MemoryDisk(randomBytes(24 * MIB + 512));
    server = await serve({ disk });
    const file = join(directory, 'out');
    expect((await runTool('nbdcopy', ['--connections=4', uri(), file])).stderr).toBe('');
    expect(sha256(readFileSync(file))).toBe(sha256(disk.bytes));
    const target = randomBytes(disk.size);
    writeFileSync(file, target);
    expect((await runTool('nbdcopy', ['--connections=4', '--flush', file, uri()])).stderr).toBe('');
    expect(sha256(disk.bytes)).toBe(sha256(target));
    expect(disk.calls.flush).toBeGreaterThan(0);
  });
});

describe('qemu-img', () => {
  needs('qemu-img').it('converts out, and onto the export', async () => {
    const disk = new MemoryDisk(Buffer.concat([randomBytes(5 * MIB), Buffer.alloc(3 * MIB)]));
    server = await serve({ disk });
    const file = join(directory, 'image');
    const source = randomBytes(8 * MIB).fill(0, MIB, 7 * MIB);
    expect((await runTool('qemu-img', ['convert', '-f', 'raw', '-O', 'raw', uri(), file])).stderr).toBe('');
    expect(sha256(readFileSync(file))).toBe(sha256(disk.bytes));
    writeFileSync(file, source);
    expect((await runTool('qemu-img', ['convert', '-n', '-f', 'raw', '-O', 'raw', file, uri()])).stderr).toBe('');
    expect(sha256(disk.bytes)).toBe(sha256(source));
    const compared = await runTool('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', file, uri()]);
    expect(compared.stdout).toContain('identical');
  });
});

describe('fio', () => {
  needs('fio').it('verifies random writes at depth 32', async () => {
    server = await serve({ disk: new MemoryDisk(Buffer.alloc(16 * MIB)) });
    const report = join(directory, 'report');
    const job = [
      '--rw=randwrite',
      '--bsrange=512-64k',
      '--iodepth=32',
      '--size=16m',
      '--verify=crc32c',
      '--verify_fatal=1',
    ];
    const output = ['--output-format=json', `--output=${report}`];
    // fio leaves its verify state in the working directory.
    const args = ['--name=verify', '--ioengine=nbd', `--uri=${uri()}`, ...job, ...output];
    const outcome = await runTool('fio', args, { cwd: directory });
    expect(outcome).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(readFileSync(report, 'utf8')).jobs[0]).toMatchObject({ error: 0, write: { io_bytes: 16 * MIB } });
  });
});

describe('close', () => {
  it('answers requests in flight, ends the clients, and may be repeated', async () => {
    const disk = new MemoryDisk(Buffer.alloc(MIB));
    let release = () => {};
    const flushing = new Promise<void>((entered) => {
      disk.flush = () =>
        new Promise((resolve) => {
          release = resolve;
          entered();
        });
    });
    server = await serve({ disk });
    const client = new RawNbdClient();
    await client.enter();
    client.request(3, 0, 0);
    await flushing;
    const closed = Promise.all([server.close(), server.close()]);
    release();
    expect(await client.error()).toBe(0);
    await closed;
    await expect(client.reader.read(1)).rejects.toThrow('ended');
    expect(existsSync(path)).toBe(false);
  });
});

describe('exports that come and go', () => {
  it('are there from add to remove, under one name each', async () => {
    server = await serve({});
    const read = async (name: string) => {
      const client = new RawNbdClient();
      await client.enter(name);
      client.request(0, 0, 512);
      expect(await client.error()).toBe(0);
      return client;
    };
    await expect(read('a')).rejects.toThrow('ended');
    const [one, other] = [new MemoryDisk(Buffer.alloc(MIB)), new MemoryDisk(Buffer.alloc(MIB))];
    server.add('a', one);
    server.add('b', other);
    expect(() => server?.add('a', other)).toThrow(RangeError);
    const [first, second] = [await read('a'), await read('b')];
    expect(['a', 'b', 'c'].map((name) => [server?.has(name), server?.clientsOf(name)])).toEqual([
      [true, 1],
      [true, 1],
      [false, 0],
    ]);
    await server.remove('a');
    await first.reader.skip(512);
    await expect(first.reader.read(1)).rejects.toThrow('ended');
    await expect(read('a')).rejects.toThrow('ended');
    await server.remove('a');
    await second.reader.skip(512);
    second.request(0, 0, 512);
    expect(await second.error()).toBe(0);
    second.socket.destroy();
    await expect.poll(() => server?.clientsOf('b')).toBe(0);
  });

  it('end after what is in flight, though a client has asked for more', async () => {
    const disk = new MemoryDisk(Buffer.alloc(MIB));
    let release = () => {};
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    let taken = 0;
    disk.flush = () => {
      taken++;
      return released;
    };
    server = await serve({ disk });
    const client = new RawNbdClient();
    await client.enter();
    for (let i = 0; i < 300; i++) client.request(3, 0, 0);
    await expect.poll(() => taken).toBe(128);
    const removed = server.remove('disk');
    release();
    await removed;
    // One more was read, and waited for room.
    expect(taken).toBeLessThan(130);
    for (let i = 0; i < taken; i++) expect(await client.error()).toBe(0);
    await expect(client.reader.read(1)).rejects.toThrow('ended');
  });

  it('end though a client does not read its last answers', async () => {
    const disk = new MemoryDisk(Buffer.alloc(MIB));
    server = await serve({ disk });
    const client = new RawNbdClient();
    await client.enter();
    for (let i = 0; i < 20; i++) client.request(0, 0, MIB);
    await expect.poll(() => disk.calls.read).toBe(20);
    await server.remove('disk');
    const left = await new Promise((resolve) => server?.listener.getConnections((_, count) => resolve(count)));
    expect(left).toBe(0);
  });

  it('are described, where that is asked for', async () => {
    server = await serve({});
    server.add('disk', new MemoryDisk(Buffer.alloc(MIB)), { description: 'of web1' });
    const client = new RawNbdClient();
    await client.reader.read(18);
    client.socket.write(Buffer.from([0, 0, 0, 3]));
    client.option(3, Buffer.alloc(0));
    expect((await client.optionReply()).data.subarray(4).toString()).toBe('diskof web1');
    await client.optionReply();
    const told = async (wanted: readonly number[]) => {
      const data = Buffer.concat([Buffer.from([0, 0, 0, 4]), Buffer.from('disk'), Buffer.from([0, wanted.length])]);
      client.option(6, Buffer.concat([data, ...wanted.map((info) => Buffer.from([0, info]))]));
      const infos: Buffer[] = [];
      for (let reply = await client.optionReply(); reply.type !== 1; reply = await client.optionReply()) {
        infos.push(reply.data);
      }
      return infos.map((info) => info.readUInt16BE(0));
    };
    expect(await told([2])).toEqual([0, 3, 2]);
    expect(await told([3])).toEqual([0, 3]);
  });
});

describe('what clients may not do', () => {
  const disk = new MemoryDisk(Buffer.alloc(MIB));

  async function serveWith(options: NbdServerOptions): Promise<void> {
    server = new NbdServer({ disk }, options);
    await once(server.listener.listen(path), 'listening');
  }

  it('is to be too many', async () => {
    await serveWith({ mostClients: 1 });
    const first = new RawNbdClient();
    await first.enter();
    await expect(new RawNbdClient().reader.read(1)).rejects.toThrow('ended');
    first.request(3, 0, 0);
    expect(await first.error()).toBe(0);
    first.socket.destroy();
    const enter = () => new RawNbdClient().enter().then(() => 'served', String);
    await expect.poll(enter).toBe('served');
  });

  it('is to take their time for the choice', async () => {
    await serveWith({ handshakeMs: 200 });
    const chosen = new RawNbdClient();
    await chosen.enter();
    const silent = new RawNbdClient();
    await silent.reader.read(18);
    await expect(silent.reader.read(1)).rejects.toThrow('ended');
    chosen.request(3, 0, 0);
    expect(await chosen.error()).toBe(0);
  });

  it('is to ask for no name, where there is no default', async () => {
    await serveWith({ defaultExport: false });
    await expect(new RawNbdClient().enter()).rejects.toThrow('ended');
    await new RawNbdClient().enter('disk');
  });
});
