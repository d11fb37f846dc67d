import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import {
  closeSync,
  constants,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { needs, working } from '@xenpv/test-support';
import { afterAll, afterEach, beforeEach, expect, it } from 'vitest';
import { attachImage } from '../attach.js';
import { BlockOp } from '../block-image.js';
import type { UnquietImage } from '../diagnostics.js';
import { type FileImage, openFileImage } from '../file/image.js';
import type { FileImageOptions } from '../file/options.js';
import { packageRoot } from '../package-root.js';
import { allocateMemory } from '../queue/buffer.js';
import { HeldDevice } from '../testing/held-device.js';
import { QueueDriver } from '../testing/queue-driver.js';
import { threadRing } from '../uring/thread-ring.js';

const MIB = 1 << 20;
const BYTES = 4096;
const [OLD, NEW] = [0x0d, 0x5e];
const folder = mkdtempSync(join(tmpdir(), 'disk-mark-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let files = 0;
function makeFile(bytes = MIB): string {
  const path = join(folder, `image-${files++}`);
  writeFileSync(path, '');
  truncateSync(path, bytes);
  return path;
}

const ops: { [name: string]: BlockOp } = BlockOp;

// A process of its own uses the built package. It tells each step, and dies only by a signal.
const PROGRAM = `
  const [, index, testing, path, options, op, fill] = process.argv;
  const { openFileImage, allocateMemory, BlockOp } = await import(index);
  const { QueueDriver } = await import(testing);
  const image = await openFileImage(path, JSON.parse(options));
  const driver = new QueueDriver(image.createQueue({ depth: 1, memory: allocateMemory(${BYTES}) }));
  new Uint8Array(driver.queue.memory).fill(Number(fill));
  console.log('open');
  process.stdin.once('data', async () => {
    console.log('begins');
    const done = driver.run(Number(op), 0, ${BYTES});
    console.log('begun');
    console.log('result ' + await done);
  });
`;

const children: ChildProcess[] = [];
afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
});

class Server {
  readonly child: ChildProcess;
  readonly ended: Promise<unknown>;
  #output = '';

  constructor(path: string, options: FileImageOptions, op: BlockOp = BlockOp.write) {
    const urls = ['dist/index.js', 'dist/testing.js'].map((file) => new URL(file, packageRoot()).href);
    const args = [...urls, path, JSON.stringify(options), String(op), String(OLD)];
    this.child = spawn(process.execPath, ['--input-type=module', '-e', PROGRAM, ...args], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    children.push(this.child);
    this.ended = once(this.child, 'exit');
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#output += text;
    });
  }

  async says(text: string): Promise<void> {
    while (!this.#output.includes(text)) await once(this.child.stdout ?? this.child, 'data');
  }

  get output(): string {
    return this.#output;
  }

  /** Begins its operation. What waits for the storage itself says no more until that is over. */
  async begin({ engine }: FileImageOptions): Promise<void> {
    this.child.stdin?.write('now\n');
    await this.says(engine === 'sync' ? 'begins' : 'begun');
  }
}

/** The first byte of the storage itself, past any cache. */
function storedByte(path: string): number {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECT);
  const bytes = new Uint8Array(allocateMemory(BYTES));
  readSync(fd, bytes, 0, BYTES, 0);
  closeSync(fd);
  return bytes[0];
}

async function write(image: FileImage, fill: number): Promise<void> {
  const driver = new QueueDriver(image.createQueue({ depth: 2, memory: allocateMemory(BYTES) }));
  new Uint8Array(driver.queue.memory).fill(fill);
  expect(await driver.run(BlockOp.write, 0, BYTES)).toBe(BYTES);
  expect(await driver.run(BlockOp.flush, 0, 0)).toBe(0);
  await driver.queue.close();
}

const told: UnquietImage[] = [];
const waits = (message: unknown) => void told.push(message as UnquietImage);
beforeEach(() => {
  told.length = 0;
  subscribe('blockdev:image:unquiet', waits);
});
afterEach(() => unsubscribe('blockdev:image:unquiet', waits));

/** An opening of an image, and whether it is over. */
class Opening {
  over = false;
  readonly image: Promise<FileImage>;

  constructor(path: string, options: FileImageOptions & { signal?: AbortSignal }) {
    this.image = openFileImage(path, options).finally(() => {
      this.over = true;
    });
    this.image.catch(() => {});
  }

  /** Resolves when it is known to wait, or is over. */
  async waits(): Promise<void> {
    while (told.length === 0 && !this.over) await nextTurn();
  }
}

const uring = { name: 'io_uring', met: () => typeof threadRing() !== 'string' };
const throttle = working('root and the throttle of block I/O', () => {
  const device = new HeldDevice(makeFile());
  device[Symbol.dispose]();
});
const disk = 'xvda of somebody';

needs(uring, throttle, 'losetup').describe('requests in flight of a process that was killed', () => {
  let device: HeldDevice;
  let backing: string;
  beforeEach(() => {
    backing = makeFile();
    device = new HeldDevice(backing);
  });
  afterEach(() => {
    device.release();
    device[Symbol.dispose]();
  });

  const URING: FileImageOptions = { engine: 'io_uring', quietFor: disk };

  /** A process that was killed while its operation was on its way to the device. */
  async function killed(op: BlockOp, options: FileImageOptions = URING): Promise<Server> {
    const server = new Server(device.path, options, op);
    await server.says('open');
    device.add(server.child.pid);
    await server.begin(options);
    // A thread is on its way to its system call.
    if (options.engine !== 'io_uring') await expect.poll(() => taskStates(server.child.pid)).toContain('D');
    server.child.kill('SIGKILL');
    return server;
  }

  it('land after a successor’s write that was flushed, unless the image is opened to be quiet', async () => {
    const server = await killed(BlockOp.write);
    await server.ended;
    const image = await openFileImage(device.path, { engine: 'io_uring' });
    await write(image, NEW);
    expect(storedByte(device.path)).toBe(NEW);
    device.release();
    await expect.poll(() => storedByte(device.path)).toBe(OLD);
    await image.close();
  });

  it.each(['write', 'read', 'discard'])('are waited for: a %s', async (name) => {
    const server = await killed(ops[name]);
    // The process is gone; its operation is not.
    await server.ended;
    expect(server.output).not.toContain('result');
    const opening = new Opening(device.path, URING);
    await opening.waits();
    expect(opening.over).toBe(false);
    expect(told).toEqual([{ path: device.path, disk }]);
    device.release();
    const image = await opening.image;
    await write(image, NEW);
    await image.close();
    expect(storedByte(device.path)).toBe(NEW);
    expect(storedByte(backing)).toBe(NEW);
  });

  it('are waited for by readers of a disk that is read-only', async () => {
    const options = { ...URING, readOnly: true };
    await (await killed(BlockOp.read, options)).ended;
    const opening = new Opening(device.path, options);
    await opening.waits();
    expect(opening.over).toBe(false);
    device.release();
    await (await opening.image).close();
  });

  it.each([
    ['through the page cache', { engine: 'io_uring', direct: false }],
    ['of a thread, past the page cache', { engine: 'threads', direct: true }],
    ['of the thread that asks, past the page cache', { engine: 'sync', direct: true }],
  ] as const)('are waited for: a read %s', async (_name, way) => {
    const options = { ...way, quietFor: disk };
    const server = await killed(BlockOp.read, options);
    const opening = new Opening(device.path, options);
    await opening.waits();
    expect(opening.over).toBe(false);
    device.release();
    await (await opening.image).close();
    await server.ended;
  });

  it('are nobody else’s concern: neither of another disk’s, nor of one that asks for nothing', async () => {
    await (await killed(BlockOp.write)).ended;
    await (await openFileImage(device.path, { ...URING, quietFor: 'another disk' })).close();
    await (await openFileImage(device.path, { engine: 'io_uring' })).close();
    expect(told).toEqual([]);
    device.release();
  });

  it('are waited for until the signal aborts, and what was opened is closed', async () => {
    await (await killed(BlockOp.write)).ended;
    const abort = new AbortController();
    const opening = new Opening(device.path, { ...URING, signal: abort.signal });
    await opening.waits();
    abort.abort(new Error('removed'));
    await expect(opening.image).rejects.toMatchObject({ name: 'AbortError' });
    expect(openDescriptors(device.path)).toBe(0);
    device.release();
    await (await openFileImage(device.path, URING)).close();
  });

  it('of two processes that were killed one after the other are waited for, of the first one too', async () => {
    const first = await killed(BlockOp.write);
    await first.ended;
    // It waits, and is killed waiting.
    const second = new Server(device.path, URING, BlockOp.write);
    const opening = new Opening(device.path, URING);
    await opening.waits();
    second.child.kill('SIGKILL');
    await second.ended;
    expect(opening.over).toBe(false);
    device.release();
    await (await opening.image).close();
  });

  needs('mke2fs').it('are waited for on a file, too', async () => {
    execFileSync('mke2fs', ['-q', '-t', 'ext4', device.path]);
    const place = join(folder, `mount-${files++}`);
    mkdirSync(place);
    execFileSync('mount', [device.path, place]);
    try {
      const path = join(place, 'image');
      execFileSync('dd', ['if=/dev/zero', `of=${path}`, 'bs=4096', 'count=16', 'conv=fsync'], { stdio: 'ignore' });
      const server = new Server(path, URING);
      await server.says('open');
      device.add(server.child.pid);
      await server.begin(URING);
      server.child.kill('SIGKILL');
      const opening = new Opening(path, URING);
      await opening.waits();
      expect(opening.over).toBe(false);
      device.release();
      const image = await opening.image;
      await write(image, NEW);
      await image.close();
      expect(storedByte(path)).toBe(NEW);
      await server.ended;
    } finally {
      device.release();
      spawnSync('umount', [place]);
    }
  });

  it.each(['io_uring', 'threads', 'sync'] as const)(
    'written by %s through the page cache stay below what a successor writes past it',
    async (engine) => {
      const through: FileImageOptions = { engine, direct: false, quietFor: disk };
      const server = new Server(device.path, through);
      await server.says('open');
      await server.begin(through);
      await server.says(`result ${BYTES}`);
      // It is not flushed: the page is dirty when the process ends.
      server.child.kill('SIGKILL');
      const image = await openFileImage(device.path, URING);
      await write(image, NEW);
      execFileSync('sync');
      expect(storedByte(backing)).toBe(NEW);
      await image.close();
      expect(storedByte(device.path)).toBe(NEW);
      await server.ended;
    },
  );
});

/** `S`, `R`, `D`: what the threads of a process do. */
function taskStates(pid: number | undefined): (string | undefined)[] {
  const tasks = `/proc/${pid}/task`;
  return readdirSync(tasks).map((task) => /\) (\w)/.exec(readFileSync(join(tasks, task, 'stat'), 'latin1'))?.[1]);
}

/** Descriptors of this process that are open on `path`. */
function openDescriptors(path: string): number {
  return execFileSync('find', ['-L', `/proc/${process.pid}/fd`, '-samefile', path], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  })
    .split('\n')
    .filter(Boolean).length;
}

/** Locked bytes of a file that are far behind QEMU's. */
function marks(path: string): number[] {
  const inode = statSync(path).ino;
  const locks = readFileSync('/proc/locks', 'latin1').split('\n');
  const own = locks.map((line) => line.split(/\s+/)).filter((words) => words[5]?.endsWith(`:${inode}`));
  return own.map((words) => Number(words[6])).filter((byte) => byte > 1000);
}

needs(uring).describe('a disk’s mark', () => {
  const options: FileImageOptions = { quietFor: disk };

  it('is not waited for within a process: an image may be opened anew before the old one is closed', async () => {
    const path = makeFile();
    const first = await openFileImage(path, options);
    const second = await openFileImage(path, options);
    await first.close();
    const third = await openFileImage(path, options);
    await second.close();
    await third.close();
    await (await openFileImage(path, options)).close();
    expect(told).toEqual([]);
  });

  it('goes when the image is closed, and stays when only another thread’s is', async () => {
    const path = makeFile();
    const image = await openFileImage(path, options);
    const attached = await attachImage(image.share()?.data);
    await attached.close();
    expect(marks(path)).not.toEqual([]);
    await image.close();
    expect(marks(path)).toEqual([]);
  });

  it('of a living process is refused with its name', async () => {
    const path = makeFile();
    const server = new Server(path, options);
    await server.says('open');
    await expect(openFileImage(path, options)).rejects.toMatchObject({
      code: 'ERR_IMAGE_IN_USE',
      message: expect.stringContaining(`(pid ${server.child.pid})`),
    });
  });

  it('an image that was closed is not attached by another thread', async () => {
    const image = await openFileImage(makeFile(), options);
    const shared = image.share()?.data;
    await image.close();
    await expect(attachImage(shared)).rejects.toMatchObject({ code: 'ERR_IMAGE_SHARED' });
  });
});
