import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, linkSync, mkdtempSync, openSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { needs, working } from '@xenpv/test-support';
import { afterAll, afterEach, expect, it } from 'vitest';
import { optionalAddon } from '../addon.js';
import { attachImage } from '../attach.js';
import type { BlockImage } from '../block-image.js';
import { openFileImage } from '../file/image.js';
import { ImageLock } from './image-lock.js';
import { storageId } from './storage-id.js';

const MIB = 1 << 20;
const folder = mkdtempSync(join(tmpdir(), 'image-lock-'));
const images: BlockImage[] = [];
const children: ChildProcess[] = [];
let files = 0;

afterEach(async () => {
  for (const image of images.splice(0)) await image.close();
  for (const child of children.splice(0)) child.kill('SIGKILL');
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function makeFile(): string {
  const path = join(folder, `image-${files++}`);
  writeFileSync(path, Buffer.alloc(MIB));
  return path;
}

interface Use {
  readonly readOnly?: boolean;
  readonly owner?: string;
}

async function open(path: string, { readOnly = false, owner = `owner ${images.length}` }: Use = {}) {
  const image = await openFileImage(path, { readOnly, lockFor: { owner, name: `disk of ${owner}` } });
  images.push(image);
  return image;
}

function qemuImg(...args: string[]) {
  return spawnSync('qemu-img', args, { encoding: 'utf8' });
}

const inUse = (holder: unknown = expect.anything()) => ({ code: 'ERR_IMAGE_IN_USE', message: holder });

it('a writer has an image alone, and readers share it', async () => {
  const path = makeFile();
  const writer = await open(path, { owner: 'a' });
  await expect(open(path)).rejects.toMatchObject(inUse(expect.stringContaining('disk of a')));
  await expect(open(path, { readOnly: true })).rejects.toMatchObject(inUse());
  await writer.close();
  await writer.close();
  const reader = await open(path, { readOnly: true });
  await open(path, { readOnly: true });
  await expect(open(path)).rejects.toMatchObject(inUse());
  await reader.close();
  await expect(open(path)).rejects.toMatchObject(inUse());
});

it('whoever is refused an image is told to wait, and not to write it all the same', async () => {
  const path = makeFile();
  await open(path);
  const advice = /in use \(disk of .*\); wait for the end of that use, or end it; mode w! is no way around it/;
  await expect(open(path, { owner: 'incoming' })).rejects.toMatchObject(inUse(expect.stringMatching(advice)));
});

it('another name of an image is the same image', async () => {
  const path = makeFile();
  const [link, hardLink] = [`${path}-link`, `${path}-hard`];
  symlinkSync(path, link);
  linkSync(path, hardLink);
  await open(path);
  await expect(open(link)).rejects.toMatchObject(inUse());
  await expect(open(hardLink)).rejects.toMatchObject(inUse());
});

it('of two that want to write an image at the same time, one gets it', async () => {
  const path = makeFile();
  const outcomes = await Promise.allSettled(['a', 'b', 'c', 'd'].map((owner) => open(path, { owner })));
  expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
});

it('the users of one owner share an image, and the last one keeps others away', async () => {
  const path = makeFile();
  const source = await open(path, { owner: 'vm' });
  const destination = await open(path, { owner: 'vm' });
  await expect(open(path)).rejects.toMatchObject(inUse());
  await source.close();
  await expect(open(path)).rejects.toMatchObject(inUse());
  await destination.close();
  await open(path);
});

it('the image is attached by other threads without another lock, and without letting go of it', async () => {
  const path = makeFile();
  const image = await open(path);
  const attached = await attachImage(image.share()?.data);
  await attached.close();
  await expect(open(path)).rejects.toMatchObject(inUse());
});

/** What owners ask for of one new file. */
async function requests() {
  const path = makeFile();
  const fd = openSync(path, 'r+');
  const id = await storageId(fd);
  const request = (owner: string) => ({ path, fd, id, readOnly: false, user: { owner, name: `disk of ${owner}` } });
  return { fd, request };
}

it('an image that is being closed is waited for, one that is only used is not', async () => {
  const { fd, request } = await requests();
  const first = await ImageLock.take(request('a'));
  await expect(ImageLock.take(request('b'))).rejects.toMatchObject(inUse());
  const unaware = ImageLock.take(request('b'));
  await sleep(50);
  first.closes();
  await first.release();
  const again = await unaware;
  again.closes();
  let taken = false;
  const second = ImageLock.take(request('c')).finally(() => {
    taken = true;
  });
  await sleep(100);
  expect(taken).toBe(false);
  await again.release();
  const lock = await second;
  await expect(ImageLock.take(request('d'))).rejects.toMatchObject(inUse(expect.stringContaining('disk of c')));
  await lock.release();
  closeSync(fd);
});

it('who no longer waits for an image that is being closed does not get it', async () => {
  const { fd, request } = await requests();
  const first = await ImageLock.take(request('a'));
  first.closes();
  const ending = new AbortController();
  const second = ImageLock.take(request('b'), ending.signal);
  ending.abort();
  await expect(second).rejects.toMatchObject({ name: 'AbortError' });
  await first.release();
  await (await ImageLock.take(request('c'))).release();
  closeSync(fd);
});

it('an image that cannot be opened leaves no lock', async () => {
  const path = makeFile();
  await expect(
    openFileImage(path, { sectorSize: 3, lockFor: { owner: 'a', name: 'disk of a' } }),
  ).rejects.toMatchObject({ code: 'ERR_SECTOR_SIZE' });
  await open(path);
});

const addon = { name: 'the native addon', met: () => optionalAddon() !== undefined };

needs(addon, 'qemu-img').it('qemu-img changes no image that is in use, and may look at it', async () => {
  const path = makeFile();
  const writer = await open(path);
  for (const args of [
    ['resize', '-f', 'raw', '--shrink', path, '4096'],
    ['dd', '-f', 'raw', '-O', 'raw', `if=${makeFile()}`, `of=${path}`],
    ['commit', '-f', 'raw', path],
  ]) {
    expect(qemuImg(...args), args.join(' ')).toMatchObject({ status: 1, stderr: expect.stringContaining('lock') });
  }
  // It only looks at a raw image, and shares it with a writer.
  expect(qemuImg('info', '-f', 'raw', path).status).toBe(0);
  await writer.close();
  const reader = await open(path, { readOnly: true });
  expect(qemuImg('info', '-f', 'raw', path).status).toBe(0);
  expect(qemuImg('resize', '-f', 'raw', path, '2M').status).toBe(1);
  await reader.close();
  expect(qemuImg('resize', '-f', 'raw', path, '2M').status).toBe(0);
});

/** A qemu-storage-daemon that has the image open for writing. */
async function storageDaemon(path: string): Promise<ChildProcess> {
  const node = `driver=file,filename=${path},node-name=disk`;
  const socket = `${path}.sock`;
  const child = spawn(
    'qemu-storage-daemon',
    [
      '--blockdev',
      node,
      '--nbd-server',
      `addr.type=unix,addr.path=${socket}`,
      '--export',
      'nbd,id=e,node-name=disk,writable=on',
      '--pidfile',
      `${path}.pid`,
    ],
    { stdio: 'inherit' },
  );
  children.push(child);
  await expect.poll(() => spawnSync('test', ['-e', `${path}.pid`]).status).toBe(0);
  return child;
}

needs(addon, 'qemu-storage-daemon').it.each(['writing', 'reading'])(
  'an image that QEMU writes is refused, with the process that has it: for %s',
  async (use) => {
    const path = makeFile();
    const child = await storageDaemon(path);
    const refused = open(path, { readOnly: use === 'reading' });
    await expect(refused).rejects.toMatchObject(inUse(expect.stringContaining(`(pid ${child.pid})`)));
    // A user that asks for no lock is not kept away.
    await (await openFileImage(path)).close();
  },
);

needs(addon, 'qemu-storage-daemon').it('a process that ends is waited for', async () => {
  const path = makeFile();
  const child = await storageDaemon(path);
  const opening = open(path);
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
  await opening;
});

it('an image that its last user makes larger before it lets go has that size', async () => {
  const path = makeFile();
  const first = await open(path);
  const opening = open(path);
  // It has looked at the file by now, and waits for a moment.
  await sleep(100);
  truncateSync(path, 2 * MIB);
  await first.close();
  expect((await opening).size).toBe(2 * MIB);
});

function losetup(...args: string[]): string {
  return execFileSync('losetup', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim();
}

const loops = working('loop devices', () => losetup('--detach', losetup('--find', '--show', makeFile())));

needs(addon, loops).it('a block device has one writer, by any name, and is claimed as a mount claims it', async () => {
  const device = losetup('--find', '--show', makeFile());
  const node = join(folder, 'node');
  try {
    execFileSync('cp', ['-a', device, node]);
    const first = await open(device, { owner: 'vm' });
    await expect(open(node)).rejects.toMatchObject(inUse(expect.stringContaining('disk of vm')));
    const second = await open(device, { owner: 'vm' });
    await first.close();
    expect(claim(device)).toBe('EBUSY');
    await second.close();
    expect(claim(device)).toBe('claimed');
  } finally {
    for (const image of images.splice(0)) await image.close();
    losetup('--detach', device);
  }
});

needs(addon, loops, 'mke2fs', { name: 'mounts', met: () => process.getuid?.() === 0 }).it(
  'a mounted block device is not written, and the message says where it is mounted',
  async () => {
    const device = losetup('--find', '--show', makeFile());
    const place = mkdtempSync(join(folder, 'mount-'));
    try {
      execFileSync('mke2fs', ['-q', device]);
      execFileSync('mount', [device, place]);
      await expect(open(device)).rejects.toMatchObject(inUse(expect.stringContaining(`mounted on ${place}`)));
      execFileSync('umount', [place]);
      await open(device);
    } finally {
      spawnSync('umount', [place]);
      for (const image of images.splice(0)) await image.close();
      losetup('--detach', device);
    }
  },
);

/** What another process gets that opens a device with O_EXCL. */
function claim(device: string): string {
  const program = `try { fs.openSync(${JSON.stringify(device)}, fs.constants.O_EXCL); console.log('claimed') } catch (e) { console.log(e.code) }`;
  return execFileSync(process.execPath, ['-e', program], { encoding: 'utf8' }).trim();
}
